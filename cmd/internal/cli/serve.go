package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-524e47bf/epum/cmd/service"
)

func (a *app) serveCommand() *cobra.Command {
	var file string
	var keys []*keyFlag
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Run a process of the service until Ctrl-C. Without --nats.url it starts an embedded NATS server and runs instances as
processes of this machine, so one command on a fresh machine is enough. More processes on the same NATS are hot standbys. When it answers
requests it prints one line on stdout, "epum ready nats=<url> process=<id>"; its log goes to stderr.

Each flag is a key of the configuration. In the YAML file of --config a dot in it is a level of nesting; as a variable it is EPUM_ and the
key in capitals with _ for each dot. A flag goes before a variable, that before the file. Durations are written as 1m30s, or as a plain
number of seconds.`,
		Example: `  epum serve
  epum serve --config epum.yaml --log.level debug
  epum serve --nats.url nats://a:4222,nats://b:4222,nats://c:4222 --nats.replicas 3
  EPUM_PROVISIONER=mock epum serve --embedded.listen 127.0.0.1:-1 --embedded.store_dir /tmp/epum`,
		Args: exactly(0),
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the configuration")
	must(cmd.MarkFlagFilename("config", "yaml", "yml", "json"))
	for _, key := range service.Keys {
		keys = append(keys, addKeyFlag(cmd, key, key.Name))
	}
	own := []string{"no-color"}
	cmd.SetHelpFunc(helpWithout(own))
	serve := a.run(func(ctx context.Context, _ []string) error {
		cfg, err := service.LoadConfig(file, texts(keys), os.Environ())
		if err != nil {
			return usageError("%v", err)
		}
		cfg.Logger = a.logger(cfg.Log.Level, cfg.Log.Format)
		err = service.Run(ctx, cfg, a.stdout)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // stopped before it was ready
		}
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if name := foreignFlag(cmd, own); name != "" {
			return usageError("serve takes no --%s; its own flags are in 'epum serve --help', for example --nats.url", name)
		}
		return serve(cmd, args)
	}
	return cmd
}

// keyFlag is a key of the configuration as a flag. It is a pflag.Value.
type keyFlag struct {
	key  service.Key
	text string
	flag *pflag.Flag
}

func addKeyFlag(cmd *cobra.Command, key service.Key, name string) *keyFlag {
	f := &keyFlag{key: key}
	doc := strings.TrimSuffix(key.Doc, ".")
	if len(key.Values) > 0 {
		doc += ": " + strings.Join(key.Values, ", ")
	}
	if key.Default != "" {
		doc += " (default " + key.Default + ")"
	}
	f.flag = cmd.Flags().VarPF(f, name, "", doc)
	complete := cobra.NoFileCompletions
	switch {
	case key.Type == "bool":
		f.flag.NoOptDefVal = "true"
		complete = cobra.FixedCompletions(key.Values, cobra.ShellCompDirectiveNoFileComp)
	case len(key.Values) > 0:
		complete = cobra.FixedCompletions(key.Values, cobra.ShellCompDirectiveNoFileComp)
	case key.Type == "path":
		complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	must(cmd.RegisterFlagCompletionFunc(name, complete))
	return f
}

func (f *keyFlag) String() string { return f.text }
func (f *keyFlag) Type() string   { return f.key.Type }

// Set keeps the text: LoadConfig reads it as it reads all sources.
func (f *keyFlag) Set(text string) error {
	f.text = text
	return nil
}

// texts are the flags that were given, by key.
func texts(flags []*keyFlag) map[string]string {
	given := map[string]string{}
	for _, f := range flags {
		if f.flag.Changed {
			given[f.key.Name] = f.text
		}
	}
	return given
}

// foreignFlag is a global flag that was given to a command which takes only
// some; "" where there is none.
func foreignFlag(cmd *cobra.Command, own []string) (name string) {
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains(own, f.Name) {
			name = f.Name
		}
	})
	return name
}

// helpWithout prints help that leaves out the global flags which a command does
// not take.
func helpWithout(own []string) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(own, f.Name) })
		cmd.Root().HelpFunc()(cmd, args)
	}
}

// logger logs to stderr; format "" means tint on a terminal, else JSON.
func (a *app) logger(level slog.Level, format string) *slog.Logger {
	if format == "" {
		format = service.LogJSON
		if isTerminal(a.stderr) {
			format = service.LogTint
		}
	}
	if format == service.LogJSON {
		return slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(a.stderr, &tint.Options{
		Level: level, TimeFormat: time.TimeOnly + ".000", NoColor: !a.colours(a.stderr),
	}))
}
