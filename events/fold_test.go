package events_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/seed-524e47bf/epum/events"
)

// anyEvent draws an event and a key that it may happen to, out of so few that
// events meet, whether or not they make sense together.
func anyEvent(t *rapid.T) (events.Key, events.Event) {
	d := events.DomainID{Owner: rapid.SampledFrom([]string{"o1", "o.2"}).Draw(t, "owner"), Name: rapid.SampledFrom([]string{"d1", "-"}).Draw(t, "domain")}
	definition := events.DefinitionKey(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "definition"))
	instance := d.InstanceKey(fmt.Sprintf("%s-%s-%d", d.Owner, d.Name, rapid.IntRange(1, 3).Draw(t, "instance")))
	n := rapid.IntRange(0, 3).Draw(t, "n")
	section := fmt.Sprintf(`{"k%d":%d}`, n%2, n)
	switch rapid.IntRange(0, 15).Draw(t, "type") {
	case 0:
		return definition, events.DefinitionAdded{Definition: config(section, "", "")}
	case 1:
		return definition, events.DefinitionUpdated{Definition: config("", section, "")}
	case 2:
		return definition, events.DefinitionRemoved{}
	case 3, 4:
		return d.Key(), events.DomainAdded{DefinitionID: "x", Config: config(section, "", ""), SubscriberName: "s0", SubscriberOp: "op"}
	case 5:
		return d.Key(), events.DomainReconfigured{Config: config("", section, section)}
	case 6:
		return d.Key(), events.DomainSubscribed{SubscriberName: fmt.Sprint("s", n), SubscriberOp: fmt.Sprint("op", n)}
	case 7:
		return d.Key(), events.DomainUnsubscribed{SubscriberName: fmt.Sprint("s", n)}
	case 8:
		return d.Key(), rapid.SampledFrom([]events.Event{events.DomainRemovalRequested{}, events.DomainRemoved{}}).Draw(t, "removal")
	case 9, 10:
		return instance, events.LaunchRequested{LaunchID: fmt.Sprint("l", n), Site: "s", ExtraVars: raw(section), Attempt: n, Replaces: []string{"", "i"}[n%2]}
	case 11:
		return instance, anyReport(t)
	case 12:
		return instance, events.TerminateRequested{}
	case 13:
		when := at(uint64(n))
		return instance, rapid.SampledFrom([]events.Event{
			events.HealthChanged{Health: events.HealthOK},
			events.HealthChanged{Health: events.HealthMonitorError, Errors: rawList("1"), ErrorTime: &when},
			events.Reaped{},
		}).Draw(t, "health")
	case 14:
		return d.DecisionKey(), events.DecisionMade{DomainSeq: uint64(n), Reason: "r", EngineState: events.EngineStable, Memory: raw(section), Saw: raw("{}")}
	default:
		if n == 0 {
			return events.PassKey, events.PassCommitted{Pass: "decide"}
		}
		return events.LeaderKey, events.LeaderElected{Process: fmt.Sprint("p", n)}
	}
}

func anyReport(t *rapid.T) events.StateChanged {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "State", "site"}), 0, 3, rapid.ID).Draw(t, "fields")
	var pairs []string
	for _, name := range names {
		pairs = append(pairs, name, rapid.SampledFrom([]string{"1", "null", `{"x":2}`}).Draw(t, "value"))
	}
	return events.StateChanged{State: rapid.SampledFrom(events.InstanceStates).Draw(t, "state"), Fields: fields(pairs...)}
}

func anyLog(t *rapid.T) *eventLog {
	l := newLog()
	for range rapid.IntRange(1, 60).Draw(t, "events") {
		key, ev := anyEvent(t)
		l.add(key, ev)
	}
	return l
}

// fold is the fold of the first n events.
func (l *eventLog) fold(n int) *events.State {
	s := events.NewState()
	for _, e := range l.entries[:n] {
		events.Apply(s, e.env, e.ev)
	}
	return s
}

// TestFold_SnapshotAndTail: fold(all) = fold(bucket at any checkpoint + tail),
// also where each document is of any later sequence than the checkpoint, since
// the bucket was being written while it was read.
func TestFold_SnapshotAndTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLog(t)
		cut := rapid.IntRange(0, len(l.entries)).Draw(t, "checkpoint")
		folds := []map[events.Key]string{}
		keys := map[events.Key]bool{}
		for n := cut; n <= len(l.entries); n++ {
			docs := documents(l.fold(n))
			folds = append(folds, docs)
			for k := range docs {
				keys[k] = true
			}
		}
		torn := rapid.Bool().Draw(t, "torn")
		bucket := map[events.Key]string{}
		for _, k := range sortedKeys(keys) {
			n := 0
			if torn {
				n = rapid.IntRange(0, len(folds)-1).Draw(t, "document of")
			}
			if doc, ok := folds[n][k]; ok {
				bucket[k] = doc
			}
		}
		s := load(t, bucket)
		s.Seq, s.Time, s.Digest = uint64(cut), at(uint64(cut)), l.fold(cut).Digest
		for _, e := range l.entries[cut:] {
			events.Apply(s, e.env, e.ev)
		}
		if diff := cmp.Diff(documents(l.state), documents(s)); diff != "" {
			t.Fatalf("checkpoint %d, torn %v (-all +snapshot and tail):\n%s", cut, torn, diff)
		}
		if s.Seq != l.state.Seq || !s.Time.Equal(l.state.Time) || s.Digest != l.state.Digest {
			t.Fatalf("at %d, %s, digest %x", s.Seq, s.Time, s.Digest)
		}
		checkIndex(t, s)
	})
}

func sortedKeys(keys map[events.Key]bool) []events.Key {
	list := make([]events.Key, 0, len(keys))
	for k := range keys {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// checkIndex fails unless all ways to an instance lead to the same one.
func checkIndex(t *rapid.T, s *events.State) {
	n := 0
	for i := range s.AllInstances() {
		n++
		if s.Instance(i.ID) != i || s.Document(i.Domain.InstanceKey(i.ID)) != events.Document(i) {
			t.Fatalf("instance %s is not the one found by its id", i.ID)
		}
	}
	seen := 0
	for k := range s.Documents() {
		if k.Kind() == events.KindInstance {
			seen++
		}
		if s.SeqOf(k) == 0 {
			t.Fatalf("%s has no sequence", k)
		}
	}
	if n != seen {
		t.Fatalf("%d instances, %d documents of instances", n, seen)
	}
	for _, owner := range []string{"o1", "o.2"} {
		for _, name := range []string{"d1", "-"} {
			instances := s.Instances(events.DomainID{Owner: owner, Name: name})
			for k := 1; k < len(instances); k++ {
				if instances[k-1].ID >= instances[k].ID {
					t.Fatal("instances are not sorted")
				}
			}
		}
	}
}

// TestFold_Redelivery: an event that comes again changes nothing.
func TestFold_Redelivery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLog(t)
		s := events.NewState()
		for n, e := range l.entries {
			events.Apply(s, e.env, e.ev)
			for range rapid.IntRange(0, 2).Draw(t, "again") {
				old := l.entries[rapid.IntRange(0, n).Draw(t, "old")]
				events.Apply(s, old.env, old.ev)
			}
		}
		if diff := cmp.Diff(documents(l.state), documents(s)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestFold_HandedOut: a document that was handed out never changes.
func TestFold_HandedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLog(t)
		s := events.NewState()
		held := map[events.Document]string{}
		for _, e := range l.entries {
			events.Apply(s, e.env, e.ev)
			for _, d := range s.Documents() {
				if _, ok := held[d]; !ok {
					held[d] = string(d.AppendJSON(nil))
				}
			}
		}
		for d, was := range held {
			if got := string(d.AppendJSON(nil)); got != was {
				t.Fatalf("was %s\nis  %s", was, got)
			}
		}
	})
}

// TestFold_OwnDocumentOnly: an event changes no other document than its own.
func TestFold_OwnDocumentOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLog()
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			before := documents(l.state)
			key, ev := anyEvent(t)
			l.add(key, ev)
			for k := range change(l, before) {
				if k != key {
					t.Fatalf("%s on %s changed %s", ev.Type(), key, k)
				}
			}
		}
	})
}

// TestFold_TerminationCommutes: a termination, which is appended unguarded, and
// a report come to the same in either order.
func TestFold_TerminationCommutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := dom.InstanceKey("i")
		prefix := []events.Event{}
		for range rapid.IntRange(0, 3).Draw(t, "before") {
			prefix = append(prefix, anyReport(t))
		}
		if rapid.Bool().Draw(t, "zombie") {
			prefix = append(prefix, events.HealthChanged{Health: events.HealthZombie})
		}
		report := anyReport(t)
		outcome := func(tail ...events.Event) string {
			l := newLog().all()
			for _, ev := range slices.Concat(prefix, tail) {
				l.add(key, ev)
			}
			i := *l.state.Instance("i")
			i.StateTime = at(0) // of the event that was first to get there
			return string(i.AppendShown(nil, nil))
		}
		a, b := outcome(report, events.TerminateRequested{}), outcome(events.TerminateRequested{}, report)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatal(diff)
		}
	})
}
