package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/jetstream"
)

// agentKeys are the keys of the configuration that the agent has, as flags.
var agentKeys = []struct{ flag, key string }{
	{"site", "agent.site"},
	{"types", "agent.types"},
	{"dir", "agent.dir"},
	{"heartbeat_interval", "agent.heartbeat_interval"},
	{"log.level", "log.level"},
	{"log.format", "log.format"},
}

func (a *app) agentCommand() *cobra.Command {
	var flags []*keyFlag
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run instances as processes of this machine",
		Long: `Run the process agent of a site until Ctrl-C: it launches and terminates instances as processes of this machine, as
the service asks for it, and reports how they are. One agent serves a site. The processes go on when it stops, and it takes them up again
when it starts with the same --dir. "epum serve" with the embedded server has an agent of its own.

The types file says which command each deployable type runs:

  web:
    command: [python3, -m, http.server, "8000"]
    env: {REGION: "{{.region}}"}
    check: [curl, -fsS, "http://127.0.0.1:8000/"]

As long as a process lives, the agent sends heartbeats for it: OK, or with a check whose exit code is not 0, PROCESS_ERROR.

Variables: EPUM_AGENT_SITE, EPUM_AGENT_TYPES, EPUM_AGENT_DIR, EPUM_AGENT_HEARTBEAT_INTERVAL, EPUM_LOG_LEVEL and EPUM_LOG_FORMAT.`,
		Example: "  epum agent --site rack-7 --types types.yaml --dir /var/lib/epum-agent",
		Args:    exactly(0),
	}
	for _, k := range agentKeys {
		n := slices.IndexFunc(service.Keys, func(key service.Key) bool { return key.Name == k.key })
		flags = append(flags, addKeyFlag(cmd, service.Keys[n], k.flag))
	}
	cmd.RunE = a.run(func(ctx context.Context, _ []string) error {
		cfg, err := service.LoadConfig("", texts(flags), agentEnvironment(os.Environ()))
		if err != nil {
			return usageError("%s", strings.ReplaceAll(err.Error(), "(--agent.", "(--")) // as the flags are called here
		}
		return a.runAgent(ctx, cfg)
	})
	return cmd
}

// agentEnvironment leaves the variables of the service's own keys out: they are
// not the agent's, nor need they be right for it.
func agentEnvironment(environ []string) []string {
	var own []string
	for _, key := range service.Keys {
		for _, k := range agentKeys {
			if k.key == key.Name {
				own = append(own, key.Variable()+"=")
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return !slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(variable, prefix) })
	})
}

func (a *app) runAgent(ctx context.Context, cfg service.Config) error {
	log := a.logger(cfg.Log.Level, cfg.Log.Format)
	prefix, err := a.cellPrefix()
	if err != nil {
		return err
	}
	types := agent.DefaultTypes()
	if cfg.Agent.Types != "" {
		if types, err = agent.LoadTypes(cfg.Agent.Types); err != nil {
			return usageError("%v", err)
		}
	}
	nc, err := a.connectAgent(log, cfg.Agent.Site)
	if err != nil {
		return err
	}
	defer closeQuietly(nc)
	opened, err := agent.Open(nc, agent.Config{
		Prefix: prefix, Site: cfg.Agent.Site, Types: types, Dir: cfg.Agent.Dir, Logger: log,
		HeartbeatInterval: cfg.Agent.HeartbeatInterval,
	})
	if err != nil {
		return err
	}
	ready := fmt.Sprintf("epum agent ready site=%s nats=%s\n", cfg.Agent.Site, jetstream.Redacted(a.serverURL()))
	if err := a.print(ready); err != nil {
		return err
	}
	return opened.Run(ctx)
}

// connectAgent waits for a server that is not there yet: an agent may well be
// started before it.
func (a *app) connectAgent(log *slog.Logger, site string) (*nats.Conn, error) {
	nc, err := a.connect(log)
	var down *fault
	if !errors.As(err, &down) || down.code != exitUnavailable {
		return nc, err
	}
	log.Warn("server not reached yet, trying on", "server", jetstream.Redacted(a.serverURL()), "site", site)
	return jetstream.Connect(jetstream.ConnectConfig{
		URL: a.serverURL(), Creds: cmp.Or(a.creds, environment("NATS_CREDS")), Name: "epum agent", Logger: log, Wait: true,
	})
}
