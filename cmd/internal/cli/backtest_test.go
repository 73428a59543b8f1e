package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/events"
)

// startService starts a service on a server of its own, with a simulated provisioner,
// and makes it the one that commands talk to, as alice.
func startService(t *testing.T) (*nats.Conn, *service.Service) {
	t.Helper()
	nc := startServer(t)
	cfg, err := service.LoadConfig("", map[string]string{
		"nats.url": nc.ConnectedUrl(), "provisioner": "mock", "mock.delay": "5ms", "decider_loop_interval": "100ms",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := service.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return nc, s
}

// does runs a command that has to work, and gives what it prints.
func does(t *testing.T, line string) string {
	t.Helper()
	r := run(words(line)...)
	if r.Code != 0 {
		t.Fatalf("epum %s: %+v", line, r)
	}
	return r.Stdout
}

// hasRunning waits until so many of a domain's instances run, and it says that all is
// as it should be.
func hasRunning(t *testing.T, domain string, want int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d instances of %s", want, domain), func() bool {
		var d struct {
			State  events.EngineState `json:"engine_state"`
			Counts map[string]int     `json:"instance_counts"`
		}
		if err := json.Unmarshal([]byte(does(t, "domain describe "+domain+" -o json")), &d); err != nil {
			t.Fatal(err)
		}
		return d.State == events.EngineStable && d.Counts[string(events.Running)] == want
	})
}

// tested is what a backtest prints as JSON.
type tested struct {
	Mode      string `json:"mode"`
	Same      int    `json:"same"`
	Differing int    `json:"differing"`
	Recorded  side   `json:"recorded"`
	Candidate side   `json:"candidate"`
}

type side struct {
	Decisions int `json:"decisions"`
	Launches  int `json:"launches"`
	Most      int `json:"most_running"`
}

func testedBy(t *testing.T, line string) (r tested) {
	t.Helper()
	if err := json.Unmarshal([]byte(does(t, line+" -o json")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBacktest(t *testing.T) {
	nc, s := startService(t)
	does(t, "definition add web")
	does(t, "domain add shop --definition web --set engine_conf.preserve_n=3")
	hasRunning(t, "shop", 3)
	does(t, "domain reconfigure shop --set engine_conf.preserve_n=5")
	hasRunning(t, "shop", 5)
	does(t, "domain reconfigure shop --set engine_conf.preserve_n=1")
	hasRunning(t, "shop", 1)

	t.Run("the recorded policy", func(t *testing.T) {
		r := testedBy(t, "backtest --domain shop")
		if r.Mode != "replayed" || r.Same == 0 || r.Same != r.Recorded.Decisions || r.Recorded.Launches != 5 || r.Candidate != r.Recorded {
			t.Errorf("%+v", r)
		}
		table := does(t, "backtest --domain shop")
		for _, line := range []string{fmt.Sprintf(`Result +%d of %d recorded decisions come out the same`, r.Same, r.Same), ` +RECORDED +REPLAYED`, `launches +5 +5`} {
			if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(table) {
				t.Errorf("no line %s in\n%s", line, table)
			}
		}
		if r := testedBy(t, "backtest --domain shop --set engine_conf.force_site=ec2-east"); r.Mode != "simulated" {
			t.Errorf("another config: %+v", r)
		}
	})
	t.Run("another policy", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "shop.svg")
		r := testedBy(t, "backtest --domain shop --set engine_conf.preserve_n=4 --svg "+file)
		if r.Mode != "simulated" || r.Candidate.Launches != 4 || r.Candidate.Most != 4 || r.Recorded.Launches != 5 {
			t.Errorf("%+v", r)
		}
		if twice := testedBy(t, "backtest --domain shop --set engine_conf.preserve_n=4"); twice.Candidate != r.Candidate {
			t.Errorf("once %+v, and then %+v", r.Candidate, twice.Candidate)
		}
		svg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"<svg", "wanted, recorded", "running, recorded", "wanted, simulated", "running, simulated", "</svg>"} {
			if !strings.Contains(string(svg), part) {
				t.Errorf("the plot lacks %q", part)
			}
		}
	})
	t.Run("refused as the service does", func(t *testing.T) {
		for _, config := range []string{
			"--set engine_conf.preserve_n=-1", "--set engine_conf.preserv_n=1", "--set general.engine_class=nobody", "--set health.boot_timeout=x",
		} {
			told := run(words("domain reconfigure shop " + config)...)
			expect(t, config, run(words("backtest --domain shop "+config)...), told)
			expect(t, config, run(words("shadow shop "+config)...), told)
		}
		expect(t, "another engine", run(words("backtest --domain shop --engine sensor --set engine_conf.minimum_vms=1")...), result{
			Code: 2, Stderr: "epum: config.engine_conf.iaas_site is required: the site whose provisioner is asked\n",
		})
		for line, want := range map[string]result{
			"backtest":                             {Code: 2, Stderr: "epum: say which domain with --domain; see 'epum domain list'\n"},
			"backtest --domain none":               {Code: 3, Stderr: "epum: the log has nothing of domain \"none\" of owner alice in that range\n"},
			"backtest --domain shop --to 99999999": {Code: 2, Stderr: "epum: --to 99999999 is beyond the log, which ends at SEQ\n"},
			"backtest --domain shop --every 0s":    {Code: 2, Stderr: "epum: --every 0s is not above zero\n"},
		} {
			got := run(words(line)...)
			got.Stderr = regexp.MustCompile(`ends at \d+`).ReplaceAllString(got.Stderr, "ends at SEQ")
			expect(t, line, got, want)
		}
	})
	t.Run("a record that differs", func(t *testing.T) {
		s.Stop()
		forge(t, nc)
		got := run("backtest", "--domain", "shop")
		if got.Code != 1 || !strings.Contains(got.Stderr, "1 of ") || !regexp.MustCompile(`reason +recorded +because I say so`).MatchString(got.Stdout) ||
			!regexp.MustCompile(`(?m)^ +again +all 1 wanted instances are running$`).MatchString(got.Stdout) {
			t.Errorf("%+v", got)
		}
	})
}

// forge puts a decision record into the log that no engine has made.
func forge(t *testing.T, nc *nats.Conn) {
	t.Helper()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	subject := events.DefaultPrefix.Event(events.DomainID{Owner: "alice", Name: "shop"}.DecisionKey())
	last, err := js.GetLastMsg("epum_events", subject)
	if err != nil {
		t.Fatal(err)
	}
	made, ok := events.Decode(events.TypeDecisionMade, last.Data).(events.DecisionMade)
	if !ok {
		t.Fatalf("no decision: %s", last.Data)
	}
	made.Reason, made.InputSeq = "because I say so", last.Sequence
	body, err := events.Encode(made)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{events.HeaderType: {events.TypeDecisionMade}, events.HeaderID: {"forged"}}}
	if _, err := js.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
}
