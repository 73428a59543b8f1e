package projections_test

import (
	"context"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// longLog is a log of so many events that say the same.
type longLog struct {
	projections.Annals
	events uint64
	read   uint64 // the last one that was given
}

// History implements projections.Annals.
func (l *longLog) History(_ context.Context, q projections.Query, each func(*events.Recorded) error) error {
	for seq := q.From.Seq; seq <= l.events; seq++ {
		r := events.DefaultPrefix.Record("epum.event.domain.o.d", seq, created, nil, nil)
		l.read = seq
		if err := each(&r); err != nil {
			return err
		}
	}
	return nil
}

// TestChronicle_Page_Bounded: what a page costs is bounded, also where it begins long
// before what is wanted, and pages get there in the end.
func TestChronicle_Page_Bounded(t *testing.T) {
	t.Parallel()
	for name, since := range map[string]projections.Point{"a sequence": {Seq: 1 << 40}, "a time": {Time: created.Add(time.Hour)}} {
		log := &longLog{events: 500_000}
		c := projections.NewChronicle(log, &memBucket{})
		q := projections.HistoryQuery{Keys: []events.Key{dom.Key()}, Since: since, After: 1, Limit: 10, Room: 1 << 20}
		for pages := 1; ; pages++ {
			page, err := c.Page(t.Context(), q)
			if err != nil || len(page.Events) > 0 || log.read-q.After > 200_001 {
				t.Fatalf("%s: page %d looks at events %d to %d, and gives %d: %v", name, pages, q.After, log.read, len(page.Events), err)
			}
			if page.Next == 0 {
				break
			}
			q.After = page.Next
		}
		if log.read != log.events {
			t.Errorf("%s: they end at %d", name, log.read)
		}
	}
}
