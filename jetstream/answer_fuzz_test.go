package jetstream

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
)

// FuzzParseAck: an ack that is read by hand says what its JSON says.
func FuzzParseAck(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		ack, err := parseAck(&nats.Msg{Data: data})
		var want struct {
			Seq   uint64          `json:"seq"`
			Error json.RawMessage `json:"error"`
		}
		if err != nil || json.Unmarshal(data, &want) != nil {
			return // what is no JSON no server sends
		}
		if ack.code == 0 && (ack.seq == 0 || string(want.Error) != "" && string(want.Error) != "null" && ack.seq != want.Seq) {
			t.Fatalf("%s: %+v", data, ack)
		}
	})
}

// FuzzParseMeta never takes one number for another.
func FuzzParseMeta(f *testing.F) {
	f.Fuzz(func(t *testing.T, reply string) {
		info, ok := parseMeta(reply)
		if !ok {
			return
		}
		m := &nats.Msg{Reply: reply, Sub: &nats.Subscription{}}
		want, err := m.Metadata()
		if err == nil && (want.Sequence.Stream != info.seq || want.Sequence.Consumer != info.index || want.NumPending != info.pending) {
			t.Fatalf("%s: %+v, the client reads %+v", reply, info, want)
		}
	})
}
