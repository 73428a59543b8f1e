package verify //nolint:testpackage // a table has no use outside

import (
	"testing"

	"pgregory.net/rapid"
)

// TestTable does with a table what it does with a map: hashes collide, stand at both ends,
// and are many enough for it to grow.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got table
		want := map[uint64]uint64{}
		hashes := rapid.OneOf(rapid.Uint64(), rapid.Uint64Max(20), rapid.Uint64Min(1<<64-20), rapid.Uint64Range(1<<63, 1<<63+5_000))
		seq := uint64(0)
		note := func(hash uint64) {
			seq++
			at := got.at(hash)
			if *at != want[hash] {
				t.Fatalf("%x is at %d, not at %d", hash, *at, want[hash])
			}
			*at, want[hash] = seq, seq
		}
		for _, hash := range rapid.SliceOfN(hashes, 0, 500).Draw(t, "hashes") {
			note(hash)
		}
		first := hashes.Draw(t, "first")
		for n := range rapid.Uint64Max(3_000).Draw(t, "more") {
			note(first + n<<50)
		}
		for hash, seq := range want {
			if got.get(hash) != seq {
				t.Fatalf("%x is at %d, not at %d", hash, got.get(hash), seq)
			}
		}
		if absent := hashes.Draw(t, "absent"); got.get(absent) != want[absent] {
			t.Fatalf("%x is at %d, not at %d", absent, got.get(absent), want[absent])
		}
		if got.used != len(want) || len(got.slots) > max(fewestSlots, 3*len(want)+1) {
			t.Fatalf("%d of %d slots are used for %d hashes", got.used, len(got.slots), len(want))
		}
	})
}
