// Package cli is the epum command: the service itself (serve, agent), its client
// (domain, definition, history, explain, diff, result, status, pass), and what an
// operator does with the cell's streams themselves (dead, verify, rebuild, archive).
//
// A client command opens a session, sends one request (or one a page), and
// prints the reply as a table or as it came. Every failure is one line on
// stderr and one of the exit codes in errors.go.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const rootLong = `epum keeps domains of instances (VMs, containers, processes) at the size and health that a policy asks for.

"epum serve" is the service: on a fresh machine it needs nothing else. All other commands talk to it over NATS.

Exit codes:
  0    it worked
  1    another error, such as a fault in the service
  2    bad usage, or a request that the service refuses as malformed or too large
  3    no such domain or definition
  4    conflict: the name exists already, or others kept writing to it
  5    not permitted
  6    unavailable or timed out: no server, no service, no leader, no quorum
  130  interrupted

Environment:
  EPUM_SERVER, NATS_URL   servers, where --server is not given
  NATS_CREDS              credentials file, where --creds is not given
  EPUM_AS                 owner, where --as is not given
  EPUM_PREFIX             prefix, where --prefix is not given
  NO_COLOR                set to anything: no colours`

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	server, creds, as, prefix string
	timeout                   time.Duration
	output                    string
	noColor                   bool

	running bool // the arguments were understood, a command is at work
}

// Execute runs one command line, args without the program's name, and returns
// the exit code. It ends early, and cleanly, when ctx is done.
func Execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !a.running {
		err = asUsage(err, cmd.CommandPath())
	}
	fault := explain(ctx, err)
	if fault.message != "" {
		fmt.Fprintf(stderr, "epum: %s\n", oneLine(fault.message))
	}
	return fault.code
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "epum",
		Short: "Elastic domains of instances on NATS",
		Long:  rootLong,
		Example: `  epum serve
  epum definition add web -f web.yaml
  epum domain add shop --definition web --set engine_conf.preserve_n=3
  epum domain describe shop
  epum domain watch shop`,
		Args:              groupArgs,
		RunE:              showHelp,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	a.globalFlags(root)
	root.AddCommand(
		a.serveCommand(), a.agentCommand(),
		a.domainCommand(), a.definitionCommand(),
		a.historyCommand(), a.explainCommand(), a.diffCommand(), a.archiveCommand(),
		a.resultCommand(), a.statusCommand(), a.passCommand(), a.deadCommand(),
		a.verifyCommand(), a.rebuildCommand(),
		a.backtestCommand(), a.shadowCommand(),
		a.completionCommand(), a.versionCommand(),
	)
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Example = "  epum help domain add"
	}
	return root
}

func (a *app) globalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "NATS servers, separated by commas (default $EPUM_SERVER, $NATS_URL or nats://127.0.0.1:4222)")
	flags.StringVar(&a.creds, "creds", "", "NATS credentials file (default $NATS_CREDS)")
	flags.StringVar(&a.as, "as", "", "owner to speak as (default $EPUM_AS or the user of this machine)")
	flags.StringVar(&a.prefix, "prefix", "", "first word of the service's subjects (default $EPUM_PREFIX or epum)")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "longest wait for an answer")
	flags.StringVarP(&a.output, "output", "o", outputTable, "what to print: table or json")
	flags.BoolVar(&a.noColor, "no-color", false, "print no colours")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp)))
	for _, name := range []string{"server", "as", "prefix", "timeout"} {
		must(root.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
}

// run makes a command's RunE of what it does.
func (a *app) run(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if a.output != outputTable && a.output != outputJSON {
			return usageError("--output %q is neither table nor json", a.output)
		}
		if a.timeout <= 0 {
			return usageError("--timeout %s is not above zero", a.timeout)
		}
		a.running = true
		return do(cmd.Context(), args)
	}
}

// group is a command that only holds others.
func group(use, short, long, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: groupArgs, RunE: showHelp}
	cmd.AddCommand(commands...)
	return cmd
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// groupArgs refuses what is no command of a group.
func groupArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(" (did you mean %q?)", near[0])
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
}

// exactly refuses another number of arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return fmt.Errorf("wrong number of arguments (%d), the usage is: %s %s", len(args), cmd.Parent().CommandPath(), cmd.Use)
	}
}

// oneOf takes one argument, which has to be one of the values.
func oneOf(values []string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := exactly(1)(cmd, args); err != nil {
			return err
		}
		if !slices.Contains(values, args[0]) {
			return fmt.Errorf("%q is none of %s", args[0], strings.Join(values, ", "))
		}
		return nil
	}
}

// environment is the first of the variables that is set and not empty.
func environment(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// must is for what can only fail by a fault of this package, as a flag's name
// that does not exist.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
