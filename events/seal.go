package events

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
)

// sealed are the headers that a seal is over where a message has them, in this order.
// Others of CloudEvents follow, sorted.
var sealed = [...]string{
	HeaderSpecVersion, HeaderID, HeaderSource, HeaderType, HeaderCETime, HeaderActor, HeaderCausation, HeaderCEEpoch,
	HeaderGuard, HeaderGuardSubject,
}

// unsealed are those that it is never over: a batch that is sent again has another id.
var unsealed = [...]string{HeaderSeal, HeaderBatchID, HeaderBatchSeq, HeaderBatchCommit}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var sealBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Seal gives the seal of a message of the log, the value of its ce-seal: a checksum of
// its subject, its body, each of its headers that CloudEvents has, and what its append
// expected. So an event that was altered or moved since shows, and where another was put
// in or taken out before it, what it expects no longer holds. It has no key: it finds
// damage, it is no proof against whoever can write a log of their own.
//
// It is 16 hex digits, of two CRC-32 (Castagnoli's and IEEE's polynomial), which most
// processors have instructions for: together as good as one of 64 bits.
func Seal(subject string, headers map[string][]string, body []byte) string {
	scratch := sealBuffers.Get().(*[]byte)
	b := append(append((*scratch)[:0], subject...), '\n')
	known := 0
	for _, name := range sealed {
		if values, ok := headers[name]; ok {
			b = appendHeader(b, name, values)
			known++
		}
	}
	for n := 0; known < len(headers) && n < len(unsealed); n++ {
		if _, ok := headers[unsealed[n]]; ok {
			known++
		}
	}
	if known < len(headers) {
		for _, name := range otherSealed(headers) {
			b = appendHeader(b, name, headers[name])
		}
	}
	var sum [8]byte
	binary.BigEndian.PutUint32(sum[:4], crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body))
	binary.BigEndian.PutUint32(sum[4:], crc32.Update(crc32.ChecksumIEEE(b), crc32.IEEETable, body))
	*scratch = b
	sealBuffers.Put(scratch)
	return hex.EncodeToString(sum[:])
}

// appendHeader appends a header as the wire has it: neither a name nor a value has a
// line's end in it.
func appendHeader(b []byte, name string, values []string) []byte {
	for _, value := range values {
		b = append(append(append(append(b, name...), ':'), value...), '\n')
	}
	return b
}

// otherSealed are the headers of CloudEvents that are not in sealed, but for the seal.
func otherSealed(headers map[string][]string) (names []string) {
	for name := range headers {
		if strings.HasPrefix(name, "ce-") && name != HeaderSeal && !slices.Contains(sealed[:], name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
