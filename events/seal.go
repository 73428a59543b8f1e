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

// placeOf is a header's place in sealed; len(sealed) where it is never sealed, as a batch's
// are since one that is sent again has another id; -1 where epum does not write it.
func placeOf(name string) int {
	switch name {
	case HeaderSpecVersion:
		return 0
	case HeaderID:
		return 1
	case HeaderSource:
		return 2
	case HeaderType:
		return 3
	case HeaderCETime:
		return 4
	case HeaderActor:
		return 5
	case HeaderCausation:
		return 6
	case HeaderCEEpoch:
		return 7
	case HeaderGuard:
		return 8
	case HeaderGuardSubject:
		return 9
	case HeaderSeal, HeaderBatchID, HeaderBatchSeq, HeaderBatchCommit:
		return len(sealed)
	}
	return -1
}

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
	seal, _ := sealOf(subject, headers, body)
	return seal
}

// sealOf is Seal; others are the headers that epum does not write.
func sealOf(subject string, headers map[string][]string, body []byte) (seal string, others []string) {
	var found [len(sealed) + 1][]string
	for name, values := range headers {
		if n := placeOf(name); n >= 0 {
			found[n] = values
		} else {
			others = append(others, name)
		}
	}
	scratch, _ := sealBuffers.Get().(*[]byte)
	b := append(append((*scratch)[:0], subject...), '\n')
	for n, name := range sealed {
		b = appendHeader(b, name, found[n])
	}
	slices.Sort(others)
	for _, name := range others {
		if strings.HasPrefix(name, "ce-") {
			b = appendHeader(b, name, headers[name])
		}
	}
	var sum [8]byte
	binary.BigEndian.PutUint32(sum[:4], crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body))
	binary.BigEndian.PutUint32(sum[4:], crc32.Update(crc32.ChecksumIEEE(b), crc32.IEEETable, body))
	*scratch = b
	sealBuffers.Put(scratch)
	return hex.EncodeToString(sum[:]), others
}

// appendHeader appends a header as the wire has it: neither a name nor a value has a
// line's end in it.
func appendHeader(b []byte, name string, values []string) []byte {
	for _, value := range values {
		b = append(append(append(append(b, name...), ':'), value...), '\n')
	}
	return b
}
