package verify

import "math/bits"

// table has a sequence for each of very many hashes. Where a map takes two looks at far
// memory to find out that there is nothing and to note something, it takes one.
type table struct {
	slots []slot // a power of two of them, a third to two thirds of them used
	used  int
}

// slot is one of a table, in the order of hashes but for those that found theirs taken
// and have one behind it.
type slot struct {
	hash uint64
	seq  uint64 // 0: it is free
}

// fewestSlots is how many a table begins with.
const fewestSlots = 1 << 10

// at is where the sequence of a hash stands, to be read and set until the next call. It is
// 0 where there was none; then whoever asks sets it.
func (t *table) at(hash uint64) *uint64 {
	if t.used*3 >= len(t.slots)*2 {
		t.grow()
	}
	s := t.find(hash)
	if s.seq == 0 {
		s.hash = hash
		t.used++
	}
	return &s.seq
}

// get is the sequence of a hash; 0: there is none.
func (t *table) get(hash uint64) uint64 {
	if len(t.slots) == 0 {
		return 0
	}
	return t.find(hash).seq
}

// find gives the slot that a hash has, or would have.
func (t *table) find(hash uint64) *slot {
	n := hash >> (64 - bits.Len(uint(len(t.slots)-1)))
	for {
		s := &t.slots[n&uint64(len(t.slots)-1)]
		if s.seq == 0 || s.hash == hash {
			return s
		}
		n++
	}
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, max(2*len(old), fewestSlots))
	for _, s := range old {
		if s.seq > 0 {
			*t.find(s.hash) = s
		}
	}
}
