package events_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// TestCatalogue_Complete: every event type and each field of its body is documented,
// in the order of the body, and nothing else is.
func TestCatalogue_Complete(t *testing.T) {
	t.Parallel()
	all := []events.Event{
		events.DefinitionAdded{},
		events.DefinitionUpdated{},
		events.DefinitionRemoved{},
		events.DomainAdded{},
		events.DomainReconfigured{},
		events.DomainSubscribed{},
		events.DomainUnsubscribed{},
		events.DomainRemovalRequested{},
		events.DomainRemoved{},
		events.LaunchRequested{},
		events.StateChanged{},
		events.TerminateRequested{},
		events.HealthChanged{},
		events.Reaped{},
		events.DecisionMade{},
		events.LeaderElected{},
		events.PassCommitted{},
	}
	if len(events.Catalogue) != len(all) {
		t.Errorf("%d types are documented, there are %d", len(events.Catalogue), len(all))
	}
	for n, doc := range events.Catalogue {
		if n >= len(all) {
			break
		}
		ev := all[n]
		if doc.Type != ev.Type() {
			t.Errorf("type %d is %s, want %s", n, doc.Type, ev.Type())
		}
		if _, unknown := events.Decode(doc.Type, []byte("{}")).(events.Unknown); unknown {
			t.Errorf("%s is not decoded", doc.Type)
		}
		if kind := strings.Split(doc.Type, ".")[1]; !strings.HasPrefix(doc.Subject, kind) || doc.Meaning == "" || doc.Actor == "" {
			t.Errorf("%s: subject %q, actor %q, meaning %q", doc.Type, doc.Subject, doc.Actor, doc.Meaning)
		}
		var want, got []string
		for field := range reflect.TypeOf(ev).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			want = append(want, name)
		}
		for _, f := range doc.Fields {
			got = append(got, f.Name)
			if f.Meaning == "" {
				t.Errorf("%s.%s has no meaning", doc.Type, f.Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", doc.Type, diff)
		}
	}
}
