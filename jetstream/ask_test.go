package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestCell_Ask(t *testing.T) {
	t.Parallel()
	cell, nc := newCell(t)
	answers := map[string][]byte{"test.fine": []byte("fine"), "test.long": make([]byte, 600<<10)}
	for subject, answer := range answers {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(answer) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := nc.Subscribe("test.mute", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		subject string
		body    []byte
		why     string // "": an answer
	}{
		{"test.fine", nil, ""},
		{"test.long", nil, "at most 524288 are taken"},
		{"test.mute", nil, "no answer in time"},
		{"test.nobody", nil, "nobody listens there"},
		{"test.fine", make([]byte, 2<<20), "more than the server takes"},
	} {
		t.Run(tt.subject, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			got, err := cell.Ask(ctx, tt.subject, tt.body)
			if tt.why == "" && (err != nil || string(got) != "fine") {
				t.Errorf("got %q, %v", got, err)
			}
			if tt.why != "" && (err == nil || !strings.Contains(err.Error(), tt.why)) {
				t.Errorf("got %v, want …%s", err, tt.why)
			}
		})
	}
}
