package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/seed-524e47bf/epum"

type rule struct {
	folders []string // "cmd" stands for all below it
	nats    bool
}

// mayImport is the table of design §8: the packages of this module that those
// in a folder may import, and whether they may import nats.go.
var mayImport = map[string]rule{
	"events":           {nil, false},
	"projections":      {[]string{"events"}, false},
	"engines":          {[]string{"engines", "events", "projections"}, false},
	"commands":         {[]string{"events", "projections", "engines"}, false},
	"commands/natsapi": {[]string{"commands", "events", "projections", "engines"}, true},
	"jetstream":        {[]string{"events", "projections"}, true},
	"cmd":              {[]string{"events", "projections", "engines", "commands", "jetstream", "cmd"}, true},
	"tests":            {[]string{"events", "projections", "engines", "commands", "jetstream", "cmd", "tests"}, true},
}

// impure are the packages of the standard library that the core does not have:
// I/O, clocks of its own, randomness, and what leads to them.
var impure = []string{
	"bufio", "context", "crypto/rand", "database", "io/fs", "io/ioutil", "log", "math/rand", "net", "os", "path/filepath", "plugin",
	"runtime", "syscall", "testing", "unsafe",
}

type listed struct {
	ImportPath string
	Imports    []string // direct ones, without those of tests
	Deps       []string // all
}

// TestStructure_Imports holds the directions of design §8, also through others.
func TestStructure_Imports(t *testing.T) {
	t.Parallel()
	packages := list(t)
	if len(packages) < 10 {
		t.Fatalf("only %d packages", len(packages))
	}
	for _, p := range packages {
		folder, rule := ruleOf(p.ImportPath)
		if folder == "" {
			t.Errorf("%s is in no folder of the design", p.ImportPath)
			continue
		}
		for _, dep := range p.Deps {
			if inside, ok := strings.CutPrefix(dep, module+"/"); ok && !below(inside, append(slices.Clone(rule.folders), folder)) {
				t.Errorf("%s depends on %s", p.ImportPath, dep)
			}
			if strings.HasPrefix(dep, "github.com/nats-io/") && !rule.nats {
				t.Errorf("%s depends on %s", p.ImportPath, dep)
			}
		}
		if folder != "events" {
			continue
		}
		for _, imported := range p.Imports {
			if below(imported, impure) || strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("the core imports %s", imported)
			}
		}
	}
}

// ruleOf gives the folder of the table that a package is in, the closest one.
func ruleOf(path string) (string, rule) {
	best := ""
	for folder := range mayImport {
		if below(strings.TrimPrefix(path, module+"/"), []string{folder}) && len(folder) > len(best) {
			best = folder
		}
	}
	return best, mayImport[best]
}

func below(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Deps,Standard", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, module+"/") {
			packages = append(packages, p)
		}
	}
}

// TestStructure_Folders has no folder at the top level but those of the design.
func TestStructure_Folders(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !entry.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		if _, ok := mayImport[name]; !ok {
			t.Errorf("there is a folder %s", name)
		}
	}
}

// TestStructure_Files holds the length of files (STYLE, packages).
func TestStructure_Files(t *testing.T) {
	t.Parallel()
	const most = 420 // "up to about 400 lines"
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		data, err := os.ReadFile(path)
		if n := strings.Count(string(data), "\n"); n > most {
			t.Errorf("%s has %d lines, at most about 400 are wanted", path, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
