package events

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"sync"
)

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
	var h Headers
	h.Read(headers)
	seal := sealOf(subject, &h, headers, body)
	return string(seal[:])
}

// sealOf is Seal of a message whose headers were read. A batch's are never sealed, since
// one that is sent again has another id.
func sealOf(subject string, h *Headers, all map[string][]string, body []byte) (seal [16]byte) {
	scratch, _ := sealBuffers.Get().(*[]byte)
	b := append(append((*scratch)[:0], subject...), '\n')
	b = appendHeader(b, HeaderSpecVersion, h.SpecVersion)
	b = appendHeader(b, HeaderID, h.ID)
	b = appendHeader(b, HeaderSource, h.Source)
	b = appendHeader(b, HeaderType, h.Type)
	b = appendHeader(b, HeaderCETime, h.CETime)
	b = appendHeader(b, HeaderActor, h.Actor)
	b = appendHeader(b, HeaderCausation, h.Causation)
	b = appendHeader(b, HeaderCEEpoch, h.CEEpoch)
	b = appendHeader(b, HeaderGuard, h.Guard)
	b = appendHeader(b, HeaderGuardSubject, h.GuardSubject)
	for _, name := range h.Others {
		if strings.HasPrefix(name, "ce-") {
			b = appendHeader(b, name, all[name])
		}
	}
	var sum [8]byte
	binary.BigEndian.PutUint32(sum[:4], crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body))
	binary.BigEndian.PutUint32(sum[4:], crc32.Update(crc32.ChecksumIEEE(b), crc32.IEEETable, body))
	*scratch = b
	sealBuffers.Put(scratch)
	hex.Encode(seal[:], sum[:])
	return seal
}

// appendHeader appends a header as the wire has it: neither a name nor a value has a
// line's end in it.
func appendHeader(b []byte, name string, values []string) []byte {
	for _, value := range values {
		b = append(append(append(append(b, name...), ':'), value...), '\n')
	}
	return b
}
