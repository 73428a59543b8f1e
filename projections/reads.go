package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// MostShown is how many instances or names a read gives where the caller names
// no limit, and how many the bucket can answer for (design §2, 4).
const MostShown = 1000

// Reader answers describe and list: from the bucket where it is as new as the
// log, else from the replica. Every answer shows all that was acknowledged
// before the question came in, whoever took it. It is safe for concurrent use.
type Reader struct {
	replica *Replica
	bucket  Bucket
	samples Samples
}

// NewReader makes a reader of a bucket and a replica, and of what was last read of
// the metrics (nil: nothing is shown of them).
func NewReader(replica *Replica, bucket Bucket, samples Samples) *Reader {
	return &Reader{replica: replica, bucket: bucket, samples: samples}
}

// DescribeDomain gives the domain document (design §5) as JSON, with at most
// limit instances (0: MostShown) that come after the instance id after.
// ErrNotFound where the owner has no such domain; an error that wraps
// ErrNoQuorum where the log's end cannot be had.
func (r *Reader) DescribeDomain(ctx context.Context, id events.DomainID, after string, limit int) ([]byte, error) {
	var view domainView
	err := r.read(ctx, id.Keys(), func(s *events.State, asOf AsOf) {
		view = domainView{
			domain: s.Domain(id), decision: s.Decision(id), instances: slices.Clone(s.Instances(id)), asOf: asOf,
		}
	})
	if err != nil {
		return nil, err
	}
	if view.domain == nil {
		return nil, fmt.Errorf("domain %q of %q: %w", id.Name, id.Owner, ErrNotFound)
	}
	view.samples = r.samplesOf(ctx, view.domain)
	return view.json(after, limitOr(limit)), nil
}

// samplesPatience bounds the wait for what is only shown.
const samplesPatience = time.Second

// samplesOf gives what was last read of a domain's metrics: nothing where its
// config has none read. It is no part of the state, so where it cannot be had it is
// left out.
func (r *Reader) samplesOf(ctx context.Context, d *events.Domain) (shown samplesDocument) {
	if r.samples == nil || !bytes.Contains(d.Config.EngineConf, []byte(`"sensor_type"`)) {
		return shown
	}
	ctx, cancel := context.WithTimeout(ctx, samplesPatience)
	defer cancel()
	data, err := r.samples.Get(ctx, d.ID)
	if err != nil || json.Unmarshal(data, &shown) != nil {
		return samplesDocument{}
	}
	return shown
}

// ListDomains gives the names of an owner's domains, sorted by their bytes, at
// most limit (0: MostShown) that come after the name after; next is the last
// one given where there are more, else "".
func (r *Reader) ListDomains(ctx context.Context, owner, after string, limit int) (names []string, next string, err error) {
	err = r.read(ctx, []events.Key{events.AllDomains(owner)}, func(s *events.State, _ AsOf) {
		for d := range s.Domains() {
			if d.ID.Owner == owner {
				names = append(names, d.ID.Name)
			}
		}
	})
	names, next = page(names, after, limitOr(limit))
	return names, next, err
}

// ListDefinitions is as ListDomains for the definitions, which all share.
func (r *Reader) ListDefinitions(ctx context.Context, after string, limit int) (names []string, next string, err error) {
	err = r.read(ctx, []events.Key{events.AllDefinitions}, func(s *events.State, _ AsOf) {
		for d := range s.Definitions() {
			names = append(names, d.Name)
		}
	})
	names, next = page(names, after, limitOr(limit))
	return names, next, err
}

// DescribeDefinition gives a definition; ErrNotFound where there is none.
func (r *Reader) DescribeDefinition(ctx context.Context, name string) (*events.Definition, error) {
	var d *events.Definition
	err := r.read(ctx, []events.Key{events.DefinitionKey(name)}, func(s *events.State, _ AsOf) { d = s.Definition(name) })
	if err == nil && d == nil {
		err = fmt.Errorf("definition %q: %w", name, ErrNotFound)
	}
	return d, err
}

// Counts is what the service holds.
type Counts struct {
	Domains   int                          `json:"domains"`
	Instances map[events.InstanceState]int `json:"instances"`

	LateTerminations int `json:"late_terminations"` // instances that have been TERMINATING for longer than they may
}

// Counts counts all domains and instances, as far as this process has folded. A
// termination is late when it has taken longer than terminateDeadline.
func (r *Reader) Counts(terminateDeadline time.Duration) Counts {
	c := Counts{Instances: map[events.InstanceState]int{}}
	lateBefore := time.Now().Add(-terminateDeadline)
	r.replica.View(func(s *events.State) {
		for range s.Domains() {
			c.Domains++
		}
		for i := range s.AllInstances() {
			c.Instances[i.State]++
			if i.State == events.Terminating && i.StateTime.Before(lateBefore) {
				c.LateTerminations++
			}
		}
	})
	return c
}

// CheckpointSeq is how far the bucket has got; 0 where it is of no use.
func (r *Reader) CheckpointSeq(ctx context.Context) uint64 {
	c, _, err := readCheckpoint(ctx, r.bucket)
	if err != nil || c.FoldVersion != events.FoldVersion {
		return 0
	}
	return c.Seq
}

// read calls see with a state that holds at least the documents of the keys and
// is no older than the log was when read was called. Bucket and log are asked at
// the same time: what the bucket says counts by its checkpoint, whenever it says it.
func (r *Reader) read(ctx context.Context, keys []events.Key, see func(*events.State, AsOf)) error {
	type answer struct {
		end uint64
		err error
	}
	asked := make(chan answer, 1)
	go func() {
		end, err := r.replica.End(ctx)
		asked <- answer{end, err}
	}()
	state, asOf, rebuild, usable := r.fromBucket(ctx, keys)
	a := <-asked
	if a.err != nil {
		return a.err
	}
	if usable && asOf.Seq >= a.end {
		see(state, asOf)
		return nil
	}
	if err := r.replica.WaitFor(ctx, a.end); err != nil {
		return fmt.Errorf("%w: %w", ErrNoQuorum, err)
	}
	if err := r.replica.waitRebuilt(ctx, rebuild); err != nil {
		return fmt.Errorf("%w: %w", ErrNoQuorum, err)
	}
	r.replica.View(func(s *events.State) { see(s, AsOf{Seq: s.Seq, Time: s.Time}) })
	return nil
}

// fromBucket gives a state of just the documents of the keys; usable is false
// where the bucket is between two states, of another log or version, or cannot
// give them all at once. rebuild is that which the bucket came of: a replica that has not
// folded the log since knows no better than the bucket did before.
func (r *Reader) fromBucket(ctx context.Context, keys []events.Key) (state *events.State, asOf AsOf, rebuild string, usable bool) {
	entries, err := r.bucket.Read(ctx, append(keys, events.CheckpointKey)...)
	if errors.Is(err, ErrTooMany) {
		if c, _, err := readCheckpoint(ctx, r.bucket); err == nil && c.FoldVersion == events.FoldVersion {
			rebuild = c.Rebuild
		}
	}
	if err != nil {
		return nil, AsOf{}, rebuild, false
	}
	state = events.NewState()
	c, err := loadEntries(state, entries)
	if c.FoldVersion == events.FoldVersion {
		rebuild = c.Rebuild
	}
	if err != nil {
		return nil, AsOf{}, rebuild, false
	}
	r.replica.mu.RLock()
	created := r.replica.created
	r.replica.mu.RUnlock()
	usable = c.FoldVersion == events.FoldVersion && c.To == 0 && c.Created.Equal(created) && !r.replica.refused(c)
	return state, AsOf{Seq: c.Seq, Time: c.Time}, rebuild, usable
}

func limitOr(limit int) int {
	if limit == 0 {
		return MostShown
	}
	return limit
}

// page sorts names and gives those after a name, at most limit.
func page(names []string, after string, limit int) (shown []string, next string) {
	slices.Sort(names)
	from, found := slices.BinarySearchFunc(names, after, strings.Compare)
	if found {
		from++
	}
	shown = names[from:]
	if len(shown) > limit {
		shown = shown[:limit]
		next = shown[limit-1]
	}
	if shown == nil {
		shown = []string{}
	}
	return shown, next
}
