package events_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-524e47bf/epum/events"
)

// TestState_Digest: no other log has the digest of one, and its bytes stay.
func TestState_Digest(t *testing.T) {
	fold := func(envs []events.Envelope) uint64 {
		s := events.NewState()
		for n, env := range envs {
			env.Seq = uint64(n + 1)
			events.Apply(s, env, events.Foreign{})
		}
		return s.Digest
	}
	var log []events.Envelope
	for n := range 20 {
		id := strings.Repeat("i", n)
		log = append(log, events.Envelope{Key: dom.InstanceKey("i" + id), ID: id})
	}
	seen := map[uint64]string{}
	check := func(what string, envs []events.Envelope) {
		t.Helper()
		d := fold(envs)
		if other, twice := seen[d]; twice {
			t.Errorf("%s has the digest of %s", what, other)
		}
		seen[d] = what
	}
	check("the log", log)
	for n := range log {
		check("dropped", slices.Delete(slices.Clone(log), n, n+1))
		check("doubled", slices.Insert(slices.Clone(log), n, log[n]))
		other := slices.Clone(log)
		other[n].ID += "x"
		check("another id", other)
		other = slices.Clone(log)
		other[n].Key += "x"
		check("another key", other)
		if n > 0 {
			other = slices.Clone(log)
			other[n], other[n-1] = other[n-1], other[n]
			check("swapped", other)
		}
	}
	if got, want := fold(log), uint64(0x84334164ae56b7db); got != want {
		t.Errorf("the digest is %#x, not %#x, which buckets have", got, want)
	}
}
