package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

func (a *app) definitionCommand() *cobra.Command {
	return group(
		"definition", "Add, look at, change and remove domain definitions",
		`A definition is a named template of domain config that all owners share. A domain copies it when it is added, so later
changes of the definition never touch the domains that exist.`,
		`  epum definition add web -f web.yaml
  epum definition describe web`,
		a.definitionWrite(
			"add", "Add a definition", "Add a definition. Its engine_conf may be incomplete: a domain can fill in the rest.", "added",
			func(id string, c events.Config) commands.Command {
				return commands.AddDefinition{DefinitionID: id, Definition: c}
			},
		),
		a.definitionList(), a.definitionDescribe(),
		a.definitionWrite(
			"update", "Replace a definition", "Replace a definition as a whole. The domains that were made from it stay as they are.", "updated",
			func(id string, c events.Config) commands.Command {
				return commands.UpdateDefinition{DefinitionID: id, Definition: c}
			},
		),
		a.definitionRemove(),
	)
}

// definition is run for a command whose first argument is a definition's name.
func (a *app) definition(do func(s *session, args []string) error) func(*cobra.Command, []string) error {
	return a.run(func(ctx context.Context, args []string) error {
		return a.withDefinition(ctx, args[0], func(s *session) error { return do(s, args) })
	})
}

// withDefinition is with for what is about one definition.
func (a *app) withDefinition(ctx context.Context, name string, do func(s *session) error) error {
	return a.with(ctx, nil, func(s *session) error {
		err := do(s)
		if f, ok := errors.AsType[*fault](err); ok && f.code == exitNotFound {
			return &fault{code: f.code, message: fmt.Sprintf("definition %q not found; see 'epum definition list'", name)}
		}
		return err
	})
}

// definitionWrite is add and update, which differ only in their words.
func (a *app) definitionWrite(verb, short, long, done string, command func(string, events.Config) commands.Command) *cobra.Command {
	var config configInput
	var how writing
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long:  long + "\n\n" + configLong,
		Example: fmt.Sprintf(`  epum definition %[1]s web -f web.yaml
  epum definition %[1]s web --set general.engine_class=simplest --set engine_conf.preserve_n=2
  printf 'engine_conf: {preserve_n: 2}' | epum definition %[1]s web -f -`, verb),
		Args:              exactly(1),
		ValidArgsFunction: a.completeDefinition,
		RunE: a.run(func(ctx context.Context, args []string) error {
			// An empty definition is fine to add: the default engine. To replace one
			// by nothing is more likely a slip.
			if verb == "update" && !config.given() {
				return usageError("say what is in the definition with --config or --set")
			}
			content, err := config.read(a.stdin)
			if err != nil {
				return err
			}
			return a.withDefinition(ctx, args[0], func(s *session) error {
				return s.write(command(args[0], content), how, fmt.Sprintf("definition %q %s", args[0], done))
			})
		}),
	}
	config.flags(cmd)
	how.flags(cmd)
	return cmd
}

func (a *app) definitionRemove() *cobra.Command {
	var how writing
	cmd := &cobra.Command{
		Use:               "remove NAME",
		Short:             "Remove a definition",
		Long:              "Remove a definition. The domains that were made from it stay as they are.",
		Example:           "  epum definition remove web",
		Aliases:           []string{"rm"},
		Args:              exactly(1),
		ValidArgsFunction: a.completeDefinition,
		RunE: a.definition(func(s *session, args []string) error {
			return s.write(commands.RemoveDefinition{DefinitionID: args[0]}, how, fmt.Sprintf("definition %q removed", args[0]))
		}),
	}
	how.flags(cmd)
	return cmd
}

func (a *app) definitionList() *cobra.Command {
	var page paging
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the definitions",
		Long:    "List the names of all definitions, sorted.",
		Example: "  epum definition list\n  epum definition list -o json",
		Aliases: []string{"ls"},
		Args:    exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.with(ctx, nil, func(s *session) error {
				return s.list(page, natsapi.OpListDefinitions, "definitions")
			})
		}),
	}
	page.flags(cmd, "definitions")
	return cmd
}

func (a *app) definitionDescribe() *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show a definition and the documentation of its engine",
		Long:              "Show a definition's config, exactly as it was given, and what its engine says about the keys it takes.",
		Example:           "  epum definition describe web\n  epum definition describe web -o json",
		Args:              exactly(1),
		ValidArgsFunction: a.completeDefinition,
		RunE: a.definition(func(s *session, args []string) error {
			reply, err := s.call(natsapi.OpDescribeDefinition, map[string]string{"definition_id": args[0]})
			if err != nil {
				return err
			}
			if a.output == outputJSON {
				return a.printJSON(reply)
			}
			var doc natsapi.DefinitionDocument
			if err := json.Unmarshal(reply, &doc); err != nil {
				return fmt.Errorf("the reply cannot be read: %w", err)
			}
			err = a.printFields(append([]string{"Definition", doc.Name}, configFields(doc.Definition)...)...)
			if err != nil || doc.Documentation == "" {
				return err
			}
			return a.print("\n" + strings.TrimSpace(cleanLines(doc.Documentation)) + "\n")
		}),
	}
}

// configFields are the sections of a config, as pairs for printFields.
func configFields(c events.Config) []string {
	return []string{
		"general", plain(c.General), "engine_conf", plain(c.EngineConf), "health", plain(c.Health),
	}
}
