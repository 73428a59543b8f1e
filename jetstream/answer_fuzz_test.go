package jetstream

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
)

// FuzzParseAck: an ack that is read by hand says what its JSON says.
func FuzzParseAck(f *testing.F) {
	f.Add([]byte(`{"stream":"epum_events", "seq":17}`))
	f.Add([]byte(`{"stream":"epum_events", "seq":17, "duplicate":true}`))
	f.Add([]byte(`{"stream":"s","seq":0,"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}`))
	f.Add([]byte(`{"stream":"x\"seq\":1","seq":2,"batch":"b","count":3}`))
	f.Add([]byte(`{`))
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
	f.Add("$JS.ACK.s.c.1.7.3.1767322800000000000.5")
	f.Add("$JS.ACK.domain.account.s.c.1.7.3.1767322800000000000.5.token")
	f.Add("$JS.ACK.s.c.1.7.3")
	f.Add("$JS.ACK.s.c.1.-7.3.4.5")
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
