package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/seed-524e47bf/epum/events"
)

// What a Type that does not say has.
const (
	DefaultGrace      = 10 * time.Second       // most programs save their work in less
	DefaultStartAfter = 500 * time.Millisecond // most that cannot run say so sooner

	DefaultCheckTimeout = 5 * time.Second // most checks ask something of this machine and take milliseconds
)

// Type says how an instance of one deployable type is run. Command, Check, the
// values of Env, and Dir are text/template templates over the request's vars; a
// var that is missing or null fails the launch, a number is as it was written.
//
// Check runs every heartbeat interval while the instance is RUNNING, with its
// environment and directory, and with its process's id in EPUM_PID. With exit
// code 0 the instance's heartbeat is OK, otherwise PROCESS_ERROR. A check that
// takes too long is killed and counts as failed. Its process group goes with it.
type Type struct {
	Command    []string          `yaml:"command"`     // program and arguments; required
	Env        map[string]string `yaml:"env"`         // added to the agent's environment, of which EPUM_… is left out
	Dir        string            `yaml:"dir"`         // working directory; "" means the instance's own, which goes with it
	Grace      time.Duration     `yaml:"grace"`       // from SIGTERM to SIGKILL; 0 means DefaultGrace
	StartAfter time.Duration     `yaml:"start_after"` // how long a process must last to be RUNNING; 0 means DefaultStartAfter

	Check        []string      `yaml:"check"`         // program and arguments; none: an instance is well as long as it lives
	CheckTimeout time.Duration `yaml:"check_timeout"` // 0 means DefaultCheckTimeout
}

// Types are deployable types by name.
type Types map[string]Type

// DefaultTypes has one type, epu_work_consumer: a process that sleeps.
func DefaultTypes() Types {
	return Types{"epu_work_consumer": {Command: []string{"sleep", "2147483647"}}}
}

// readTypes reads YAML strictly. The decoder panics on some that is none, such as
// a sequence with nothing in it.
func readTypes(data []byte) (types Types, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is no valid YAML: %v", p)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&types)
	return types, err
}

// LoadTypes reads a YAML file: name → the keys of Type. A key that is unknown
// or doubled, a type without a command, and a template that cannot be parsed
// are errors that name it.
func LoadTypes(path string) (Types, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("agent: types: %w", err)
	}
	types, err := readTypes(data)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("agent: types: %s: %w", path, err)
	}
	if len(types) == 0 {
		return nil, fmt.Errorf("agent: types: %s: no deployable type in it", path)
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if err := types[name].check(); err != nil {
			return nil, fmt.Errorf("agent: types: %s: %s: %w", path, name, err)
		}
	}
	return types, nil
}

func (t Type) check() error {
	switch {
	case len(t.Command) == 0:
		return errors.New("command: it is missing")
	case t.Grace < 0:
		return errors.New("grace: it is negative")
	case t.StartAfter < 0:
		return errors.New("start_after: it is negative")
	case t.CheckTimeout < 0:
		return errors.New("check_timeout: it is negative")
	}
	for name := range t.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("env: %q cannot be the name of a variable", name)
		}
	}
	return t.each(func(what, text string) error {
		_, err := parse(what, text)
		return err
	})
}

// each calls do for each template, in a fixed order, up to the first error.
func (t Type) each(do func(what, text string) error) error {
	for n, text := range t.Command {
		if err := do(fmt.Sprintf("command[%d]", n), text); err != nil {
			return err
		}
	}
	for n, text := range t.Check {
		if err := do(fmt.Sprintf("check[%d]", n), text); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Env)) {
		if err := do("env."+name, t.Env[name]); err != nil {
			return err
		}
	}
	return do("dir", t.Dir)
}

func parse(what, text string) (*template.Template, error) {
	return template.New(what).Option("missingkey=error").Parse(text)
}

// command is a Type with its templates filled in.
type command struct {
	argv              []string // at least one
	env               []string // KEY=value
	dir               string   // "": the instance's own
	grace, startAfter time.Duration
	check             *check // nil: none
}

// command gives what a request is to run. The error is a sentence for the
// report.
func (ts Types) command(req events.ProvisionRequest) (command, error) {
	t, ok := ts[req.DeployableType]
	if !ok {
		return command{}, fmt.Errorf("unknown deployable type %q; this agent knows %s",
			req.DeployableType, strings.Join(slices.Sorted(maps.Keys(ts)), ", "))
	}
	c := command{grace: cmp.Or(t.Grace, DefaultGrace), startAfter: cmp.Or(t.StartAfter, DefaultStartAfter)}
	var checkArgv []string
	vars, err := decodeVars(req.Vars)
	if err == nil {
		err = t.check()
	}
	if err != nil {
		return command{}, fmt.Errorf("deployable type %q: %w", req.DeployableType, err)
	}
	err = t.each(func(what, text string) error {
		tmpl, err := parse(what, text)
		if err != nil {
			return err
		}
		var out strings.Builder
		if err := tmpl.Execute(&out, vars); err != nil {
			return err
		}
		switch name, isEnv := strings.CutPrefix(what, "env."); {
		case isEnv:
			c.env = append(c.env, name+"="+out.String())
		case what == "dir":
			c.dir = out.String()
		case strings.HasPrefix(what, "check["):
			checkArgv = append(checkArgv, out.String())
		default:
			c.argv = append(c.argv, out.String())
		}
		return nil
	})
	if err != nil {
		return command{}, fmt.Errorf("deployable type %q: %w", req.DeployableType, err)
	}
	if len(checkArgv) > 0 {
		c.check = &check{Argv: checkArgv, Env: c.env, Dir: c.dir, Timeout: cmp.Or(t.CheckTimeout, DefaultCheckTimeout)}
	}
	return c, nil
}

func decodeVars(raw map[string]json.RawMessage) (map[string]any, error) {
	vars := make(map[string]any, len(raw))
	for name, value := range raw {
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("var %q: %w", name, err)
		}
		if v != nil {
			vars[name] = v
		}
	}
	return vars, nil
}
