//go:build sabotage

package jetstream

import (
	"context"
	"os"
	"strconv"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/seed-524e47bf/epum/events"
)

// sabotage is what this process leaves out: "no-fence", "no-guard", "redecide",
// or "" for nothing.
var sabotage = os.Getenv("EPUM_SABOTAGE")

func unguarded(d events.Draft) bool {
	switch d.Key.Kind() {
	case events.KindPass:
		return sabotage == "no-fence"
	case events.KindLeader:
		return false
	default:
		return sabotage == "no-guard" && d.Epoch == 0
	}
}

func (l *Log) anew(ctx context.Context, m *nats.Msg) bool {
	if sabotage != "redecide" {
		return false
	}
	last, err := l.Last(ctx, l.prefix.EventKey(m.Subject))
	if err != nil && !notFound(err) {
		return false
	}
	m.Header[events.HeaderID] = []string{uuid.NewString()}
	m.Header[events.HeaderGuard] = []string{strconv.FormatUint(last.Seq, 10)}
	return true
}
