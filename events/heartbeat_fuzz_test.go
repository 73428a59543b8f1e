package events_test

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
)

// FuzzDecodeHeartbeat: whatever an agent says, what is recorded of it comes back
// from the log as it was, fits a document, and is news only once.
func FuzzDecodeHeartbeat(f *testing.F) {
	now := time.Unix(1, 0).UTC()
	f.Fuzz(func(t *testing.T, node string, body []byte) {
		h, err := events.DecodeHeartbeat(node, body)
		if err != nil {
			return
		}
		for _, state := range events.InstanceStates {
			i := &events.Instance{ID: "i", State: state, Health: events.HealthUnknown}
			ev, news := i.Heard(h, now)
			if !news {
				continue
			}
			data, err := events.Encode(ev)
			if err != nil {
				t.Fatalf("not to be recorded: %v", err)
			}
			if diff := cmp.Diff(events.Event(ev), events.Decode(ev.Type(), data)); diff != "" {
				t.Fatal("another one in the log:", diff)
			}
			for _, e := range ev.Errors {
				if !jsontext.Value(e).IsValid() || events.TooDeep(e) {
					t.Fatalf("others cannot read %q", e)
				}
			}
			heard := *i
			heard.Health, heard.Errors, heard.ErrorTime = ev.Health, ev.Errors, ev.ErrorTime
			key := events.DomainID{Owner: "o", Name: "d"}.InstanceKey("i")
			if _, err := events.DecodeDocument(key, heard.AppendJSON(nil)); err != nil {
				t.Fatalf("a document that cannot be read: %v", err)
			}
			if len(heard.AppendJSON(nil)) > events.MaxInstanceBytes {
				t.Fatal("a document that is too large")
			}
			if _, again := heard.Heard(h, now); again {
				t.Fatal("news twice")
			}
		}
	})
}

// FuzzHeartbeatNode: the subject of a node gives the node back, and no other does.
func FuzzHeartbeatNode(f *testing.F) {
	f.Fuzz(func(t *testing.T, node, subject string) {
		p := events.DefaultPrefix
		if events.CheckName(node) == nil {
			if got, ok := p.HeartbeatNode(p.Node(node, events.OpHeartbeat)); !ok || got != node {
				t.Fatalf("%q came back as %q", node, got)
			}
		}
		if got, ok := p.HeartbeatNode(subject); ok && p.Node(got, events.OpHeartbeat) != subject {
			t.Fatalf("%q names %q, whose subject is another", subject, got)
		}
	})
}
