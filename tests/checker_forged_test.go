package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// forgery is a log that nobody wrote. Its guards hold.
type forgery struct {
	log  []logged
	last map[events.Key]uint64
}

// add appends an event; nil: a message that is none.
func (f *forgery) add(key events.Key, ev events.Event, headers ...string) {
	if f.last == nil {
		f.last = map[events.Key]uint64{}
	}
	seq := uint64(len(f.log) + 1)
	l := logged{key: key, seq: seq, body: []byte(`{"stream":"epum_inbox","seq":1}`)}
	if ev != nil {
		body, err := json.Marshal(ev)
		if err != nil {
			panic(err)
		}
		l.body = body
		l.header = nats.Header{
			events.HeaderID: {fmt.Sprint("id-", seq)}, events.HeaderType: {ev.Type()}, headerGuard: {strconv.FormatUint(f.last[key], 10)},
		}
		for n := 0; n < len(headers); n += 2 {
			l.header[headers[n]] = []string{headers[n+1]}
		}
	}
	f.last[key] = seq
	f.log = append(f.log, l)
}

var forged = events.DomainID{Owner: "al", Name: "web"}

// TestChecker_Foreign has messages in the log that are no events.
func TestChecker_Foreign(t *testing.T) {
	t.Parallel()
	a := &attempt{cmd: commands.RemoveDomain{DomainID: "web"}, caller: "al", outcome: acknowledged, seq: 3}
	add := &attempt{cmd: commands.AddDomain{DomainID: "web"}, caller: "al", outcome: acknowledged, seq: 1}
	expect := expectations{attempts: []*attempt{add, a}, foreign: map[events.Key]int{forged.Key(): 1}}
	f := &forgery{}
	f.add(forged.Key(), events.DomainAdded{}, events.HeaderActor, "al")
	f.add(forged.Key(), nil)
	f.add(forged.Key(), events.DomainRemovalRequested{}, events.HeaderActor, "al")
	if findings := checkLog(f.log, expect); len(findings) > 0 {
		t.Errorf("findings in a log that is right: %q", findings)
	}
	f.log[2].header[headerGuard] = []string{"1"}
	if findings := checkLog(f.log, expect); countFindings(findings, findGuard) == 0 {
		t.Errorf("a guard that passes over it: findings %q", findings)
	}
	expect.foreign = nil
	if findings := checkLog(f.log, expect); countFindings(findings, findAlien) == 0 {
		t.Errorf("nobody has sent it: findings %q", findings)
	}
}

// inbox is what there is to see of commands that were left.
type inbox struct {
	forgery
	left     []*left
	outcomes map[string]outcomeStored
	ever     uint64
}

func newInbox() *inbox {
	i := &inbox{outcomes: map[string]outcomeStored{}}
	for n, cmd := range []commands.Command{
		commands.AddDomain{DomainID: "web"}, commands.SubscribeDomain{DomainID: "web"}, commands.UnsubscribeDomain{DomainID: "web"}, commands.RemoveDomain{DomainID: "db"},
	} {
		id := fmt.Sprint("c", n)
		c := &left{attempt: &attempt{cmd: cmd, caller: "al", id: id}, sent: 1, taken: []uint64{uint64(n + 1)}}
		o := outcomeStored{seq: uint64(n + 1), command: fmt.Sprint(n+1, "/now"), body: fmt.Appendf(nil, `{"seq":%d}`, n+1)}
		if n == 3 {
			o.code = "404"
		} else {
			i.add(forged.Key(), []events.Event{events.DomainAdded{}, events.DomainSubscribed{}, events.DomainUnsubscribed{}}[n],
				events.HeaderActor, "al", events.HeaderCausation, "al/"+id)
		}
		i.left, i.outcomes[events.DefaultPrefix.Result("al", id)] = append(i.left, c), o
	}
	i.ever = uint64(len(i.left))
	return i
}

func (i *inbox) check() []string {
	findings := resolve(i.left, i.outcomes)
	expect := expectations{}
	for _, c := range i.left {
		expect.attempts = append(expect.attempts, c.attempt)
	}
	return slices.Concat(findings, checkDurable(i.left, nil, i.outcomes, i.ever), checkLog(i.log, expect))
}

// change changes the outcome of the nth command.
func (i *inbox) change(n int, change func(*outcomeStored)) {
	subject := events.DefaultPrefix.Result("al", i.left[n].id)
	o := i.outcomes[subject]
	change(&o)
	i.outcomes[subject] = o
}

// TestChecker_Inbox has commands that were left come to something else than they must.
func TestChecker_Inbox(t *testing.T) {
	t.Parallel()
	if findings := newInbox().check(); len(findings) > 0 {
		t.Errorf("findings where all is right: %q", findings)
	}
	for what, lie := range map[string]struct {
		want string
		tell func(*inbox)
	}{
		"a doubled command": {findDoubled, func(i *inbox) {
			i.add(forged.Key(), events.DomainSubscribed{}, events.HeaderActor, "al", events.HeaderCausation, "al/c1")
		}},
		"no outcome":                 {findLost, func(i *inbox) { delete(i.outcomes, "epum.result.al.c1") }},
		"an outcome of another":      {findAlien, func(i *inbox) { i.change(1, func(o *outcomeStored) { o.command = "1/now" }) }},
		"an outcome twice":           {findDoubled, func(i *inbox) { i.ever++ }},
		"an outcome too early":       {findOutcome, func(i *inbox) { i.change(3, func(o *outcomeStored) { o.seq = 0 }) }},
		"an outcome of nobody":       {findAlien, func(i *inbox) { i.outcomes["epum.result.al.x"] = outcomeStored{} }},
		"an outcome that is a fault": {findOutcome, func(i *inbox) { i.change(3, func(o *outcomeStored) { o.code = "500" }) }},
		"an event that is not there": {findLost, func(i *inbox) { i.change(1, func(o *outcomeStored) { o.body = []byte(`{"seq":3}`) }) }},
		"refused, and in the log":    {findAlien, func(i *inbox) { i.change(1, func(o *outcomeStored) { o.code = "409" }) }},
		"carried out too early": {findOutcome, func(i *inbox) {
			for n, seq := range map[int]uint64{1: 3, 2: 2} {
				i.left[n].taken[0] = seq
				i.change(n, func(o *outcomeStored) { o.seq, o.command = seq, fmt.Sprint(seq, "/now") })
			}
		}},
		"a request was told another": {findDoubled, func(i *inbox) {
			i.left[1].asked, i.left[1].outcome, i.left[1].seq = true, acknowledged, 1
		}},
	} {
		i := newInbox()
		lie.tell(i)
		if findings := i.check(); countFindings(findings, lie.want) == 0 {
			t.Errorf("%s: no finding %q in %q", what, lie.want, findings)
		}
	}
	want := letters{taken: map[string]int{"a": 1}, sent: map[string]int{"a": 2}}
	for n, kind := range []string{findLost, "", "", findAlien} {
		findings := checkDead(want, map[string]int{"a": n})
		if (kind == "") != (len(findings) == 0) || kind != "" && countFindings(findings, kind) == 0 {
			t.Errorf("%d dead letters: %q", n, findings)
		}
	}
}

// TestChecker_Health has a domain of four that run and are ill, of which half may be
// missing at a time.
func TestChecker_Health(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		found bool
		steps string // of one each
	}{
		"half is replaced":                  {false, "end a b, launch r s"},
		"more than half":                    {true, "end a b c, launch r s t"},
		"more than half, and nothing comes": {true, "end a b c"},
		"one more where launches fail":      {true, "end a b, launch r s, fail r s, end c"},
		"another one, and nothing comes":    {true, "end a b, launch r s, end c"},
		"the next half":                     {false, "end a b, launch r s, run r s, end c d, launch t u"},
		"one that was launched again":       {false, "end a b, launch r s, fail r, launch t, run t, end c, launch u"},
		"a place that was filled is one":    {true, "end a b, launch r s, run r, end c d, launch t u"},
		"what nobody wants any more":        {false, "want 0, end a b c d"},
		"most of which nobody wants":        {false, "want 1, end a b c d, launch r"},
		"what the cloud says has failed":    {false, "break a b c, end a b c, launch r s t"},
		"what is well again":                {false, "heal a b c, end a b c, launch r s t"},
		"a smaller part":                    {true, "part 0.25, end a b, launch r s"},
	} {
		f := &forgery{}
		f.add(forged.Key(), events.DomainAdded{Config: preserve(4)})
		for _, verb := range []string{"launch a b c d", "run a b c d", "sicken a b c d"} {
			f.step(verb)
		}
		for step := range strings.SplitSeq(tt.steps, ", ") {
			f.step(step)
		}
		var found []string
		for _, finding := range checkLog(f.log, expectations{}) {
			if strings.HasPrefix(finding, findHealth) {
				found = append(found, finding)
			}
		}
		if tt.found != (len(found) > 0) {
			t.Errorf("%s: %q", what, found)
		}
	}
}

// step appends what a step says of instances, in one batch.
func (f *forgery) step(step string) {
	verb, rest, _ := strings.Cut(step, " ")
	batch := []string{headerBatch, fmt.Sprint("batch-", len(f.log))}
	switch verb {
	case "want":
		n, _ := strconv.Atoi(rest)
		f.add(forged.Key(), events.DomainReconfigured{Config: preserve(n)})
		return
	case "part":
		f.add(forged.Key(), events.DomainReconfigured{Config: events.Config{General: json.RawMessage(`{"max_unhealthy_fraction":` + rest + `}`)}})
		return
	case "end":
		f.add(forged.DecisionKey(), events.DecisionMade{InputSeq: uint64(len(f.log))}, batch...)
	}
	did := map[string]events.Event{
		"launch": events.LaunchRequested{Replaces: "x"}, "end": events.TerminateRequested{}, "run": events.StateChanged{State: events.Running},
		"fail": events.StateChanged{State: events.Failed}, "break": events.StateChanged{State: events.RunningFailed},
		"sicken": events.HealthChanged{Health: events.HealthProcessError}, "heal": events.HealthChanged{Health: events.HealthOK},
	}[verb]
	for id := range strings.FieldsSeq(rest) {
		f.add(forged.InstanceKey(id), did, batch...)
	}
}
