package events

import "math/bits"

// digest adds an event to the digest of those before it: its place, its aggregate and
// its id. So two logs have the same digest only where they have the same events in the
// same order, which their documents do not always tell.
func digest(before uint64, env Envelope) uint64 {
	d := mix(before, env.Seq)
	d = mixText(d, string(env.Key))
	return mixText(d, env.ID)
}

// mix folds the 128 bits of a product, as wyhash does; the constants are its.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0xa0761d6478bd642f, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

func mixText(d uint64, s string) uint64 {
	d ^= uint64(len(s))
	for ; len(s) >= 8; s = s[8:] {
		d = mix(d, uint64(s[0])|uint64(s[1])<<8|uint64(s[2])<<16|uint64(s[3])<<24|uint64(s[4])<<32|uint64(s[5])<<40|uint64(s[6])<<48|uint64(s[7])<<56)
	}
	var rest uint64
	for n := range len(s) {
		rest |= uint64(s[n]) << (8 * n)
	}
	return mix(d, rest)
}
