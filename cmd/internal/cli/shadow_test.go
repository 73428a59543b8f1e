package cli_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// watched is a shadow that runs until it is stopped, or ends by itself.
type watched struct {
	t              *testing.T
	stdout, stderr *buffer
	stop           func() int
}

func inBackground(t *testing.T, line string) *watched {
	stdout, stderr, stop := background(t, words(line)...)
	return &watched{t, stdout, stderr, stop}
}

// says waits until it has printed what matches.
func (w *watched) says(pattern string) {
	w.t.Helper()
	wanted := regexp.MustCompile(pattern)
	waitFor(w.t, pattern, func() bool { return wanted.MatchString(w.stdout.String()) })
}

// ends checks that it ends with a code, now or once it is stopped.
func (w *watched) ends(code int) {
	w.t.Helper()
	if got := w.stop(); got != code {
		w.t.Errorf("it ends with %d: %s", got, w.stderr.String())
	}
}

func TestShadow(t *testing.T) {
	nc, _ := startService(t)
	does(t, "definition add web")
	does(t, "domain add shop --definition web --set engine_conf.preserve_n=2")
	hasRunning(t, "shop", 2)
	asked, err := nc.SubscribeSync("epum.provisioner.>")
	if err != nil {
		t.Fatal(err)
	}
	before := lastOf(t, nc, "epum_events")

	s := inBackground(t, "shadow shop --set engine_conf.preserve_n=4")
	s.says(`shadow: wants 4: 2 of 4 wanted instances are there: launch 2 +\| +recorded: wants 2: all 2 wanted instances are running\n`)
	does(t, "pass decide") // of the service's own: it has nothing to do either
	if n, after := queued(t, nc, asked), lastOf(t, nc, "epum_events"); n != 0 || after != before {
		t.Errorf("with a shadow the log went from %d to %d, and provisioners heard %d messages", before, after, n)
	}

	does(t, "domain reconfigure shop --set engine_conf.preserve_n=3 --set general.termination_policy=oldest")
	hasRunning(t, "shop", 3)
	s.says(`wants 4: 3 of 4 wanted instances are there: launch 1`)
	if again := lastOf(t, nc, "epum_shadow"); again < 2 {
		t.Errorf("%d records", again)
	}
	quiet := lastOf(t, nc, "epum_shadow")
	for range 3 {
		does(t, "pass decide")
	}
	if now := lastOf(t, nc, "epum_shadow"); now != quiet {
		t.Errorf("%d records of what is no news", now-quiet)
	}

	t.Run("another one takes its place", func(t *testing.T) {
		other := inBackground(t, "shadow shop --engine needy --set engine_conf.preserve_n=1 --set engine_conf.iaas_site=s --set engine_conf.iaas_allocation=small --set engine_conf.deployable_type=w -o json")
		other.says(`"engine":"needy"`)
		does(t, "domain reconfigure shop --set engine_conf.preserve_n=1")
		waitFor(t, "the first one's end", func() bool { return s.stderr.String() != "" })
		s.ends(4)
		if !strings.Contains(s.stderr.String(), `another shadow of domain "shop" has begun`) {
			t.Errorf("it says %s", s.stderr.String())
		}
		hasRunning(t, "shop", 1)
		other.says(`"recorded":.*"target":1`)
		other.ends(130)
	})
	t.Run("report", func(t *testing.T) {
		var r struct {
			Engine           string  `json:"engine"`
			Runs             int     `json:"runs"`
			Unended          int     `json:"runs_without_end"`
			Watched          float64 `json:"watched_seconds"`
			Same, More, Less float64
			Recorded, Shadow struct {
				Decisions int     `json:"decisions"`
				Most      int     `json:"most_wanted"`
				Hours     float64 `json:"wanted_instance_hours"`
			}
		}
		if err := json.Unmarshal([]byte(does(t, "shadow shop --report -o json")), &r); err != nil {
			t.Fatal(err)
		}
		if r.Engine != "needy" || r.Runs != 2 || r.Unended != 1 || r.Watched <= 0 || r.Shadow.Most != 4 || r.Recorded.Most != 3 || r.Shadow.Decisions < 3 || r.Recorded.Decisions < 1 {
			t.Errorf("%+v", r)
		}
		if table := does(t, "shadow shop --report"); !regexp.MustCompile(`(?m)^most wanted +3 +4$`).MatchString(table) {
			t.Errorf("%s", table)
		}
	})
	t.Run("the domain goes", func(t *testing.T) {
		last := inBackground(t, "shadow shop --set engine_conf.preserve_n=4")
		last.says("wants 4")
		does(t, "domain remove shop")
		waitFor(t, "its end", func() bool { return last.stderr.String() != "" })
		last.ends(0)
	})
	expect(t, "no domain", run(words("shadow none --engine needy")...), result{Code: 3, Stderr: "epum: domain \"none\" not found for owner alice; see 'epum domain list'\n"})
	expect(t, "no policy", run(words("shadow shop")...), result{
		Code: 2, Stderr: "epum: say what is to decide with --engine, --set or --config, or compare what is on record with --report\n",
	})
	expect(t, "no shadow", run(words("shadow none --report")...), result{
		Code: 3, Stderr: "epum: no shadow of domain \"none\" of owner alice has ever decided; start one with 'epum shadow none --engine …'\n",
	})
}

// lastOf is the last sequence of a stream.
func lastOf(t *testing.T, nc *nats.Conn, stream string) uint64 {
	t.Helper()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.StreamInfo(stream)
	if err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}

// queued is how many messages a subscription has heard by now.
func queued(t *testing.T, nc *nats.Conn, sub *nats.Subscription) int {
	t.Helper()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	n, _, err := sub.Pending()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
