package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands"
)

func (a *app) domainCommand() *cobra.Command {
	return group(
		"domain", "Add, look at, change and remove domains",
		`A domain is a named group of instances of one owner that one decision engine keeps at the size and health that its
config asks for. You see and touch only your own domains; --as says who you are.`,
		`  epum domain add shop --definition web --set engine_conf.preserve_n=3
  epum domain list
  epum domain watch shop`,
		a.domainAdd(), a.domainList(), a.domainDescribe(), a.domainReconfigure(), a.domainRemove(),
		a.domainSubscribe(), a.domainUnsubscribe(), a.domainWatch(),
	)
}

// domain is run for a command whose first argument is a domain's name.
func (a *app) domain(do func(s *session, args []string) error) func(*cobra.Command, []string) error {
	return a.run(func(ctx context.Context, args []string) error {
		return a.withDomain(ctx, args[0], func(s *session) error { return do(s, args) })
	})
}

// withDomain is with for what is about one domain.
func (a *app) withDomain(ctx context.Context, name string, do func(s *session) error) error {
	return a.with(ctx, nil, func(s *session) error {
		err := do(s)
		if f, ok := errors.AsType[*fault](err); ok && f.code == exitNotFound && !f.final {
			return &fault{code: f.code, message: fmt.Sprintf("domain %q not found for owner %s; see 'epum domain list'", name, s.owner)}
		}
		return err
	})
}

func (a *app) domainAdd() *cobra.Command {
	var add commands.AddDomain
	var config configInput
	var how writing
	cmd := &cobra.Command{
		Use:   "add NAME --definition DEFINITION",
		Short: "Add a domain from a definition",
		Long: `Add a domain: a copy of the definition's config with the given config laid over it, key by key in each section.

` + configLong,
		Example: `  epum domain add shop --definition web --set engine_conf.preserve_n=3
  epum domain add shop --definition web -f shop.yaml --subscriber ops --subscriber-op changed`,
		Args:              exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, args []string) error {
			if add.DefinitionID == "" {
				return usageError("say what the domain is made from with --definition; see 'epum definition list'")
			}
			var err error
			if add.Config, err = config.read(a.stdin); err != nil {
				return err
			}
			add.DomainID = args[0]
			return a.with(ctx, nil, func(s *session) error {
				return s.write(add, how, fmt.Sprintf("domain %q added", add.DomainID))
			})
		}),
	}
	cmd.Flags().StringVarP(&add.DefinitionID, "definition", "d", "", "definition to copy")
	cmd.Flags().StringVar(&add.SubscriberName, "subscriber", "", "subscriber to tell of changes from the start")
	cmd.Flags().StringVar(&add.SubscriberOp, "subscriber-op", "", "operation that the subscriber is sent")
	cmd.MarkFlagsRequiredTogether("subscriber", "subscriber-op")
	must(cmd.RegisterFlagCompletionFunc("definition", a.completeDefinitions))
	config.flags(cmd)
	how.flags(cmd)
	return cmd
}

func (a *app) domainReconfigure() *cobra.Command {
	var config configInput
	var how writing
	cmd := &cobra.Command{
		Use:   "reconfigure NAME",
		Short: "Change a domain's config",
		Long: `Lay a config over a domain's, key by key in each section, one level deep: a key that is given replaces the old value
as a whole, all other keys stay. The engine acts on it at once.

` + configLong,
		Example: `  epum domain reconfigure shop --set engine_conf.preserve_n=5
  epum domain reconfigure shop --set health.monitor_health=true --set health.boot_timeout=60
  epum domain reconfigure shop -f shop.yaml`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
		RunE: a.run(func(ctx context.Context, args []string) error {
			if !config.given() {
				return usageError("say what to change with --set or --config")
			}
			over, err := config.read(a.stdin)
			if err != nil {
				return err
			}
			return a.withDomain(ctx, args[0], func(s *session) error {
				return s.write(
					commands.ReconfigureDomain{DomainID: args[0], Config: over}, how,
					fmt.Sprintf("domain %q reconfigured", args[0]),
				)
			})
		}),
	}
	config.flags(cmd)
	how.flags(cmd)
	return cmd
}

func (a *app) domainRemove() *cobra.Command {
	var how writing
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a domain and terminate its instances",
		Long: `Mark a domain as removed: its instances are terminated, then it vanishes. Until then it is still listed; 'epum domain
watch' shows how far it is.`,
		Example:           "  epum domain remove shop",
		Aliases:           []string{"rm"},
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
		RunE: a.domain(func(s *session, args []string) error {
			return s.write(
				commands.RemoveDomain{DomainID: args[0]}, how,
				fmt.Sprintf("domain %q is being removed", args[0]),
			)
		}),
	}
	how.flags(cmd)
	return cmd
}

func (a *app) domainSubscribe() *cobra.Command {
	var how writing
	cmd := &cobra.Command{
		Use:   "subscribe NAME SUBSCRIBER OP",
		Short: "Tell a subscriber of a domain's instances",
		Long: `Have a message sent on <prefix>.notify.SUBSCRIBER.OP whenever an instance of the domain runs, and when it ends. A
subscriber that the domain has already gets the new OP.`,
		Example:           "  epum domain subscribe shop ops instance_changed",
		Args:              exactly(3),
		ValidArgsFunction: a.completeDomain,
		RunE: a.domain(func(s *session, args []string) error {
			return s.write(
				commands.SubscribeDomain{DomainID: args[0], SubscriberName: args[1], SubscriberOp: args[2]}, how,
				fmt.Sprintf("%q is subscribed to domain %q", args[1], args[0]),
			)
		}),
	}
	how.flags(cmd)
	return cmd
}

func (a *app) domainUnsubscribe() *cobra.Command {
	var how writing
	cmd := &cobra.Command{
		Use:               "unsubscribe NAME SUBSCRIBER",
		Short:             "Tell a subscriber no more",
		Long:              "Take a subscriber away from a domain. One that the domain does not have changes nothing.",
		Example:           "  epum domain unsubscribe shop ops",
		Args:              exactly(2),
		ValidArgsFunction: a.completeDomain,
		RunE: a.domain(func(s *session, args []string) error {
			return s.write(
				commands.UnsubscribeDomain{DomainID: args[0], SubscriberName: args[1]}, how,
				fmt.Sprintf("%q is not subscribed to domain %q", args[1], args[0]),
			)
		}),
	}
	how.flags(cmd)
	return cmd
}
