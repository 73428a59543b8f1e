package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
)

// completionTimeout is how long a person who pressed Tab is kept waiting.
const completionTimeout = time.Second

var shells = []string{"bash", "zsh", "fish", "powershell"}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion {bash|zsh|fish|powershell}",
		Short: "Print a completion script for a shell",
		Long: `Print a script that teaches a shell to complete epum's commands and flags, and the names of your domains and definitions
as the service has them.`,
		Example: `  source <(epum completion bash)
  epum completion zsh > "${fpath[1]}/_epum"
  epum completion fish > ~/.config/fish/completions/epum.fish`,
		Args:      oneOf(shells),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.running = true
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(a.stdout, true)
			}
			return cmd.Root().GenPowerShellCompletionWithDesc(a.stdout)
		},
	}
}

// completeDomain completes a first argument that is a domain's name.
func (a *app) completeDomain(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd, natsapi.OpListDomains, "domains")
}

// completeDefinition completes a first argument that is a definition's name.
func (a *app) completeDefinition(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd, natsapi.OpListDefinitions, "definitions")
}

// completeDefinitions completes a flag that is a definition's name.
func (a *app) completeDefinitions(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.names(cmd, natsapi.OpListDefinitions, "definitions")
}

// names asks the service for names; the shell picks those that fit. Whatever
// goes wrong, there are just none.
func (a *app) names(cmd *cobra.Command, op, field string) ([]string, cobra.ShellCompDirective) {
	const most = 10_000 // names; the most that one request may ask for
	a.timeout = min(a.timeout, completionTimeout)
	var names []string
	// The error is of no use to somebody who presses Tab.
	_ = a.with(cmd.Context(), nil, func(s *session) error {
		reply, err := s.call(op, pageRequest{Limit: most})
		if err != nil {
			return err
		}
		items, _, err := pageOf(reply, field)
		for _, item := range items {
			names = append(names, plain(item))
		}
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
