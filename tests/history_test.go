package tests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// pagesOf reads page after page of a history, each of a random size.
func (e *epum) pagesOf(caller string, q natsapi.HistoryRequest) (all []events.Recorded) {
	e.t.Helper()
	for {
		q.Limit = 1 + rand.IntN(7)
		page, err := e.as(caller).History(e.ctx(), q)
		if err != nil {
			e.t.Fatalf("%s: %+v: %v", caller, q, err)
		}
		if len(page.Events) > q.Limit {
			e.t.Fatalf("%d events, at most %d were asked for", len(page.Events), q.Limit)
		}
		for _, line := range page.Events {
			r, err := e.prefix.ParseCloudEvent(line)
			if err != nil {
				e.t.Fatal(err)
			}
			all = append(all, r)
		}
		if page.Next == 0 {
			return all
		}
		q.After = page.Next
	}
}

// TestHistory_Op: pages of history are what the log has, of the caller's own domains.
func TestHistory_Op(t *testing.T) {
	t.Parallel()
	e := busy(t)
	e.do("bo", commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(1)})
	e.decide()
	log := e.log()
	web := events.DomainID{Owner: "al", Name: "web"}
	var anInstance string
	of := func(keep func(l logged, id events.DomainID, name string) bool) (some []logged) {
		for _, l := range log {
			if id, name, ok := l.key.Parts(); ok && keep(l, id, name) {
				some = append(some, l)
			}
		}
		return some
	}
	for _, l := range log {
		if id, name, _ := l.key.Parts(); id == web && l.typ() == events.TypeReaped {
			anInstance = name // its record is gone, its history is not
		}
	}
	mid := log[len(log)/2]
	for what, c := range map[string]struct {
		caller string
		q      natsapi.HistoryRequest
		want   []logged
	}{
		"all of a caller's": {"al", natsapi.HistoryRequest{}, of(func(_ logged, id events.DomainID, _ string) bool { return id.Owner == "al" })},
		"another caller's":  {"bo", natsapi.HistoryRequest{}, of(func(_ logged, id events.DomainID, _ string) bool { return id.Owner == "bo" })},
		"a domain's":        {"al", natsapi.HistoryRequest{DomainID: "web"}, of(func(_ logged, id events.DomainID, _ string) bool { return id == web })},
		"an instance's": {
			"al",
			natsapi.HistoryRequest{InstanceID: anInstance},
			of(func(_ logged, _ events.DomainID, name string) bool { return name == anInstance }),
		},
		"a definition's": {
			"bo",
			natsapi.HistoryRequest{DefinitionID: "d"},
			of(func(l logged, _ events.DomainID, _ string) bool { return l.key == events.DefinitionKey("d") }),
		},
		"some types'": {
			"al",
			natsapi.HistoryRequest{Types: []string{events.TypeReaped, events.TypeDomainAdded}},
			of(func(l logged, id events.DomainID, _ string) bool {
				return id.Owner == "al" && (l.typ() == events.TypeReaped || l.typ() == events.TypeDomainAdded)
			}),
		},
		"some sequences'": {
			"al",
			natsapi.HistoryRequest{DomainID: "web", Since: projections.Point{Seq: 7}, Until: projections.Point{Seq: mid.seq}},
			of(func(l logged, id events.DomainID, _ string) bool { return id == web && l.seq >= 7 && l.seq <= mid.seq }),
		},
		"a time's": {
			"al",
			natsapi.HistoryRequest{Since: projections.Point{Time: mid.time}},
			of(func(l logged, id events.DomainID, _ string) bool { return id.Owner == "al" && !l.time.Before(mid.time) }),
		},
	} {
		got := e.pagesOf(c.caller, c.q)
		var gotSeqs, wantSeqs []string
		for _, r := range got {
			gotSeqs = append(gotSeqs, fmt.Sprint(r.Seq, r.Subject, r.ID, r.Type, r.Time, string(r.Body)))
		}
		for _, l := range c.want {
			wantSeqs = append(wantSeqs, fmt.Sprint(l.seq, e.prefix.Event(l.key), l.id(), l.typ(), l.time.UTC(), string(l.body)))
		}
		if diff := cmp.Diff(wantSeqs, gotSeqs); diff != "" || len(wantSeqs) == 0 {
			t.Errorf("%s: %d events (-log +op):\n%s", what, len(wantSeqs), diff)
		}
	}
	for _, request := range []string{`{"domain_id":"web"}`, fmt.Sprintf(`{"instance_id":%q}`, anInstance)} {
		if a := e.ask("carol", "history", request); a.code != 404 {
			t.Errorf("carol: %s: %d %s", request, a.code, a.body)
		}
	}
}

// TestHistory_Names: of a definition, which is everybody's, a caller reads what was done to
// it, and of those who did it only its own name.
func TestHistory_Names(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	const secret = "Zoe"
	e.do("al", commands.AddDefinition{DefinitionID: "d"})
	e.do(secret, commands.UpdateDefinition{DefinitionID: "d", Definition: preserve(1)})
	e.do("al", commands.UpdateDefinition{DefinitionID: "d", Definition: preserve(2)})
	for caller, want := range map[string]string{"al": "al -  - al", secret: " - " + secret + " - ", "bo": " -  - "} {
		page, err := e.as(caller).History(e.ctx(), natsapi.HistoryRequest{DefinitionID: "d"})
		if err != nil {
			t.Fatal(err)
		}
		var actors []string
		for _, line := range page.Events {
			r, err := e.prefix.ParseCloudEvent(line)
			if err != nil || (r.Actor == "") != (r.CausationID == "") {
				t.Errorf("%s: %s: %v", caller, line, err)
			}
			if seal := events.Header(r.Header, events.HeaderSeal); (seal == "") != (r.Actor == "") || seal != "" && seal != events.Seal(r.Subject, r.Header, r.Body) {
				t.Errorf("%s: the seal of %s", caller, line)
			}
			if caller != secret && contains(string(line), secret) {
				t.Errorf("%s reads %s", caller, line)
			}
			actors = append(actors, r.Actor)
		}
		if got := strings.Join(actors, " - "); got != want {
			t.Errorf("%s reads that it was done by %q, want %q", caller, got, want)
		}
	}
}

// TestHistory_Large: pages fit a message, and an event that fits none is told of
// without its body.
func TestHistory_Large(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(0)})
	const large = 120 << 10
	for n := range 20 {
		credential := strings.Repeat(string(rune('a'+n)), large)
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: events.Config{General: section(map[string]any{"chef_credential": credential})}})
	}
	binary := nats.NewMsg("epum.event.domain.al.web")
	binary.Data = make([]byte, 1000<<10) // in base64 it is larger than a message
	ack, err := e.js.PublishMsg(e.ctx(), binary)
	if err != nil {
		t.Fatal(err)
	}
	e.do("al", commands.SubscribeDomain{DomainID: "web", SubscriberName: "s", SubscriberOp: "o"})
	var seqs []uint64
	pages := 0
	for after := uint64(0); ; pages++ {
		page, err := e.as("al").History(e.ctx(), natsapi.HistoryRequest{DomainID: "web", After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range page.Events {
			var ce struct {
				Sequence uint64 `json:"sequence,string"`
				LeftOut  string `json:"leftout"`
			}
			if err := json.Unmarshal(line, &ce); err != nil {
				t.Fatal(err)
			}
			if (ce.LeftOut == fmt.Sprint(len(binary.Data))) != (ce.Sequence == ack.Sequence) {
				t.Errorf("event %d leaves out %q", ce.Sequence, ce.LeftOut)
			}
			seqs = append(seqs, ce.Sequence)
		}
		if page.Next == 0 {
			break
		}
		after = page.Next
	}
	if len(seqs) != 23 || !slices.IsSorted(seqs) || pages < 2 {
		t.Errorf("%d pages with %v", pages+1, seqs)
	}
}

// TestHistory_DoesNotBlock: as many readings as there may be, of a long history, hold up
// neither commands nor a pass.
func TestHistory_DoesNotBlock(t *testing.T) {
	t.Parallel()
	e := newEpum(t)
	p := e.provisioner()
	e.do("al", commands.AddDefinition{DefinitionID: "d"}, commands.AddDomain{DomainID: "web", DefinitionID: "d", Config: preserve(100)})
	e.decide()
	for _, id := range p.provisions(100) {
		e.report(id, map[string]any{"state": events.Running})
	}
	eventually(t, "all run", func() bool { return e.describe("al", "web").InstanceCounts[events.Running] == 100 })
	seq := e.describe("al", "web").AsOf.Seq
	stop := make(chan struct{})
	answers := make(chan int, 1<<16)
	var ended []chan struct{}
	for range 16 {
		done := make(chan struct{})
		ended = append(ended, done)
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					reply, err := e.nc.Request("epum.cmd.al.describe_domain", fmt.Appendf(nil, `{"domain_id":"web","as_of":%d,"limit":1}`, seq), patience)
					if err == nil && reply.Header.Get("Nats-Service-Error-Code") == "" {
						answers <- 200
					}
				}
			}
		}()
	}
	for n := range 10 {
		e.do("al", commands.ReconfigureDomain{DomainID: "web", Config: preserve(100 + n%2)})
		e.decide()
		e.describe("al", "web")
	}
	close(stop)
	for _, done := range ended {
		await(t, "readers end", done)
	}
	if len(answers) == 0 {
		t.Error("no reading came through")
	}
}

// TestHistory_TimesOfDay: since and until take times, and a fraction of a second counts.
func TestHistory_TimesOfDay(t *testing.T) {
	t.Parallel()
	e := busy(t)
	log := e.log()
	first, last := log[2], log[len(log)-2]
	q := natsapi.HistoryRequest{Since: projections.Point{Time: first.time.Add(time.Nanosecond)}, Until: projections.Point{Time: last.time.Add(-time.Nanosecond)}}
	for _, r := range e.pagesOf("al", q) {
		if !r.Time.After(first.time) || !r.Time.Before(last.time) {
			t.Errorf("event %d at %s is not between %s and %s", r.Seq, r.Time, first.time, last.time)
		}
	}
}
