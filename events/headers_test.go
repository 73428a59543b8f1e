package events_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/seed-524e47bf/epum/events"
)

// TestHeaders: each header that epum writes is found, and its value is in the seal, but
// for the seal's own and those of a batch.
func TestHeaders(t *testing.T) {
	t.Parallel()
	unsealed := []string{events.HeaderSeal, events.HeaderBatchID, events.HeaderBatchSeq, events.HeaderBatchCommit}
	names := append(slices.Clone(unsealed), events.HeaderSpecVersion, events.HeaderID, events.HeaderSource, events.HeaderType, events.HeaderCETime,
		events.HeaderActor, events.HeaderCausation, events.HeaderCEEpoch, events.HeaderGuard, events.HeaderGuardSubject)
	all := map[string][]string{"Else": {"e"}, "ce-else": {"e"}}
	for n, name := range names {
		all[name] = []string{fmt.Sprint(n)}
	}
	var h events.Headers
	h.Read(all)
	found := map[string]bool{}
	for n := range reflect.TypeFor[events.Headers]().NumField() {
		if values, ok := reflect.TypeAssert[[]string](reflect.ValueOf(h).Field(n)); ok && len(values) == 1 {
			found[values[0]] = true
		}
	}
	if fields := reflect.TypeFor[events.Headers]().NumField() - 1; len(found) != fields || fields != len(names) {
		t.Errorf("%d fields, of which %d were found: %+v", fields, len(found), h)
	}
	if want := []string{"Else", "ce-else"}; !slices.Equal(h.Others, want) {
		t.Errorf("others %q", h.Others)
	}
	seal := events.Seal("s", all, nil)
	for _, name := range append(names, "ce-else", "Else") {
		altered := maps.Clone(all)
		altered[name] = []string{"another"}
		if sealed := events.Seal("s", altered, nil) != seal; sealed == (slices.Contains(unsealed, name) || name == "Else") {
			t.Errorf("%s sealed: %v", name, sealed)
		}
	}
}
