package shadow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/seed-524e47bf/epum/engines/passes"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Report compares what shadows of a domain decided with what was decided, over the
// time in which one ran.
type Report struct {
	From, To          time.Time // from the first run's beginning to the last one's end; zero: there was none
	Runs              int
	Unended           int // runs that left no end: each counts to its last record, the last one to the end of the report
	Engine            string
	Watched           time.Duration // with a shadow
	Recorded, Shadow  Tally
	Same, More, Fewer time.Duration // in which the shadow wanted as many instances, more, fewer
}

// Tally is one side.
type Tally struct {
	Decisions   int     // on record
	WantedHours float64 // instances that were wanted, over time
	MostWanted  int
}

// wish is how many instances are wanted from a time on.
type wish struct {
	at     time.Time
	wanted int
	run    string // of a shadow
	ended  bool
}

// Compare compares what is on record, from a time on until another one. The log has to
// have all decisions since the former.
func Compare(ctx context.Context, domain events.DomainID, log Log, records Records, since, until time.Time) (*Report, error) {
	r := &Report{}
	shadows, err := r.shadows(ctx, domain, records, since)
	if err != nil || len(shadows) == 0 {
		return r, err
	}
	own, err := wishes(ctx, domain, log)
	if err != nil {
		return r, err
	}
	r.From = shadows[0].at
	for n, s := range shadows {
		to := s.at
		switch last := n == len(shadows)-1; {
		case s.ended:
		case !last && shadows[n+1].run == s.run:
			to = shadows[n+1].at
		case last && until.After(to):
			to = until
			r.Unended++
		default:
			r.Unended++
		}
		r.To = to
		own = r.compare(own, s, to)
	}
	return r, nil
}

// shadows reads the shadows' records from a time on, with the wish that was in force then.
func (r *Report) shadows(ctx context.Context, domain events.DomainID, records Records, since time.Time) (list []wish, err error) {
	run, before := "", wish{ended: true}
	err = records.Read(ctx, domain, func(stored time.Time, body []byte) error {
		var one Record
		if err := json.Unmarshal(body, &one); err != nil {
			return fmt.Errorf("shadow: decode a record: %w", err)
		}
		saw, err := passes.DecodeSaw(one.Saw)
		if err != nil {
			return err
		}
		r.Engine = one.Engine
		now := wish{at: stored, wanted: saw.Target, run: one.Run, ended: one.Ended}
		if stored.Before(since) {
			before, before.at = now, since
			return nil
		}
		if len(list) == 0 && !before.ended && before.run == now.run {
			list, run = append(list, before), before.run
			r.Runs++
		}
		if one.Run != run {
			run = one.Run
			r.Runs++
		}
		if !one.Ended {
			r.Shadow.Decisions++
		}
		list = append(list, now)
		return nil
	})
	if len(list) == 0 && !before.ended {
		list = append(list, before)
		r.Runs++
	}
	return list, err
}

// wishes reads the domain's own decisions.
func wishes(ctx context.Context, domain events.DomainID, log Log) (list []wish, err error) {
	q := projections.Query{Keys: []events.Key{domain.Key(), domain.DecisionKey()}}
	err = log.History(ctx, q, func(e *events.Recorded) error {
		switch ev := e.Event.(type) {
		case events.DecisionMade:
			saw, err := passes.DecodeSaw(ev.Saw)
			if err != nil {
				return err
			}
			list = append(list, wish{at: e.Time, wanted: saw.Target})
		case events.DomainAdded, events.DomainRemoved:
			list = append(list, wish{at: e.Time, run: "none"}) // nothing is wanted, and nobody decided
		default:
		}
		return nil
	})
	return list, err
}

// compare compares one wish of a shadow, until a time, with the domain's own, and gives
// what is left of those.
func (r *Report) compare(own []wish, s wish, to time.Time) []wish {
	r.Shadow.MostWanted = max(r.Shadow.MostWanted, s.wanted)
	for at := s.at; ; {
		for len(own) > 1 && !own[1].at.After(at) {
			own = own[1:]
		}
		wanted, following := 0, own
		if len(own) > 0 && !own[0].at.After(at) {
			wanted, following = own[0].wanted, own[1:]
		}
		next := to
		if len(following) > 0 && following[0].at.Before(to) {
			next = following[0].at
		}
		r.Recorded.MostWanted = max(r.Recorded.MostWanted, wanted)
		r.count(next.Sub(at), wanted, s.wanted)
		if !next.Before(to) {
			return own
		}
		if at = next; following[0].run == "" {
			r.Recorded.Decisions++
		}
	}
}

func (r *Report) count(passed time.Duration, recorded, shadow int) {
	if passed <= 0 {
		return
	}
	r.Watched += passed
	r.Recorded.WantedHours += float64(recorded) * passed.Hours()
	r.Shadow.WantedHours += float64(shadow) * passed.Hours()
	switch {
	case shadow > recorded:
		r.More += passed
	case shadow < recorded:
		r.Fewer += passed
	default:
		r.Same += passed
	}
}
