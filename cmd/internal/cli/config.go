package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

const configLong = `The config comes from --config (a YAML or JSON file, - for stdin) with the sections general, engine_conf and health,
from --set SECTION.KEY=VALUE, or from both: what is set goes over the file. A VALUE that is JSON is taken as such, any other
as a string. A KEY with dots is a path into objects; \. is a dot of the key itself.`

// configInput is how a command is given a config.
type configInput struct {
	file string   // "": none
	sets []string // SECTION.KEY=VALUE
}

func (c *configInput) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.file, "config", "f", "", "file with the config, YAML or JSON; - is stdin")
	cmd.Flags().StringArrayVar(&c.sets, "set", nil, "one key of the config, as engine_conf.preserve_n=3; may be repeated")
	must(cmd.MarkFlagFilename("config", "yaml", "yml", "json"))
	must(cmd.RegisterFlagCompletionFunc("set", cobra.FixedCompletions(
		[]string{"general.", "engine_conf.", "health."}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace,
	)))
}

func (c *configInput) given() bool { return c.file != "" || len(c.sets) > 0 }

// read gives the config. Whether its content makes sense is the service's to
// say; here it only has to have sections.
func (c *configInput) read(stdin io.Reader) (events.Config, error) {
	var config events.Config
	if c.file != "" {
		sections, err := readSections(c.file, stdin)
		if err != nil {
			return config, err
		}
		for name, content := range sections {
			section, err := sectionOf(&config, name)
			if err != nil {
				return config, usageError("%s: %v", c.file, err)
			}
			*section = content
		}
	}
	for _, assignment := range c.sets {
		if err := set(&config, assignment); err != nil {
			return config, usageError("--set %s: %v", assignment, err)
		}
	}
	return config, nil
}

func readSections(file string, stdin io.Reader) (map[string]json.RawMessage, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, usageError("read the config: %v", err)
	}
	if file == "-" {
		file = "stdin"
	}
	doc, err := service.YAMLToJSON(data)
	if err != nil {
		return nil, usageError("%s: %v", file, err)
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(doc, &sections); err != nil {
		return nil, usageError("%s: it must have the sections general, engine_conf and health", file)
	}
	for name, content := range sections {
		if string(content) == "null" { // as YAML writes an empty section
			sections[name] = json.RawMessage("{}")
		}
	}
	return sections, nil
}

// sectionOf gives a config's section by its name.
func sectionOf(config *events.Config, name string) (*json.RawMessage, error) {
	switch name {
	case engines.SectionGeneral:
		return &config.General, nil
	case engines.SectionEngineConf:
		return &config.EngineConf, nil
	case engines.SectionHealth:
		return &config.Health, nil
	}
	return nil, fmt.Errorf("there is no section %q; the sections are general, engine_conf and health", name)
}

// set carries out one SECTION.KEY=VALUE.
func set(config *events.Config, assignment string) error {
	key, value, ok := strings.Cut(assignment, "=")
	path := splitPath(key)
	if !ok || len(path) < 2 || slices.Contains(path, "") {
		return fmt.Errorf("write it as SECTION.KEY=VALUE, for example engine_conf.preserve_n=3")
	}
	section, err := sectionOf(config, path[0])
	if err != nil {
		return err
	}
	content := *section
	if content == nil {
		content = json.RawMessage("{}")
	}
	*section, err = put(content, path[1:], value)
	return err
}

// splitPath splits at dots that have no backslash before them.
func splitPath(key string) []string {
	const dot = "\x00" // in no key
	path := strings.Split(strings.ReplaceAll(key, `\.`, dot), ".")
	for n := range path {
		path[n] = strings.ReplaceAll(path[n], dot, ".")
	}
	return path
}

// put gives an object with the value at the path; what is not on the path stays
// as it is.
func put(object json.RawMessage, path []string, value string) (json.RawMessage, error) {
	if len(path) == 0 {
		if json.Valid([]byte(value)) {
			return json.RawMessage(value), nil
		}
		return json.Marshal(value)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, fmt.Errorf("what is above %s is no object", path[0])
	}
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	inner, ok := fields[path[0]]
	if !ok {
		inner = json.RawMessage("{}")
	}
	inner, err := put(inner, path[1:], value)
	if err != nil {
		return nil, err
	}
	fields[path[0]] = inner
	return json.Marshal(fields)
}
