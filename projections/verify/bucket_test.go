package verify_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
	"github.com/seed-524e47bf/epum/projections/verify"
)

// TestRun_Bucket has one thing wrong with the bucket.
func TestRun_Bucket(t *testing.T) {
	at := func(change func(*projections.Checkpoint)) func(*log, bucket) {
		return func(_ *log, b bucket) { b.checkpoint(change) }
	}
	for name, c := range map[string]struct {
		harm func(l *log, b bucket)
		want string
	}{
		"a document is missing": {func(_ *log, b bucket) { delete(b, def) }, "bucket definition.d 27 the document is missing"},
		"one too many":          {func(_ *log, b bucket) { b["definition.e"] = b[def] }, "bucket definition.e 0 there is a document of what the log does not have"},
		"one that is reaped":    {func(_ *log, b bucket) { b[web.InstanceKey("i")] = b[web.InstanceKey("k")] }, "bucket instance.al.web.i 0 there is a document"},
		"another state": {func(_ *log, b bucket) {
			k := web.InstanceKey("k")
			b[k] = bytes.Replace(b[k], []byte("100-REQUESTING"), []byte("600-RUNNING"), 1)
		}, `bucket instance.al.web.k 26 state is "600-RUNNING", and the log says "100-REQUESTING"`},
		"a field more":            {func(_ *log, b bucket) { b[def] = bytes.Replace(b[def], []byte("{"), []byte(`{"more":1,`), 1) }, "bucket definition.d 27 more is 1, and the log says absent"},
		"no document":             {func(_ *log, b bucket) { b[def] = []byte("{}") }, "bucket definition.d 27 the document cannot be read"},
		"a key of nobody":         {func(_ *log, b bucket) { b["else"] = []byte("1") }, "warning bucket else 0 a key that is nobody's"},
		"no checkpoint":           {func(_ *log, b bucket) { delete(b, events.CheckpointKey) }, "bucket checkpoint 0 the state bucket has no checkpoint"},
		"a checkpoint of nothing": {func(_ *log, b bucket) { b[events.CheckpointKey] = []byte("x") }, "bucket checkpoint 0 the state bucket has no checkpoint"},
		"of another fold":         {at(func(c *projections.Checkpoint) { c.FoldVersion++ }), "bucket checkpoint 0 it is of fold version"},
		"of another stream":       {at(func(c *projections.Checkpoint) { c.Created = created.Add(1) }), "bucket checkpoint 27 it is of a log that was created at"},
		"of another event":        {at(func(c *projections.Checkpoint) { c.EventID = "x" }), `bucket checkpoint 27 it says that event 27 is "x"`},
		"of another time":         {at(func(c *projections.Checkpoint) { c.Time = created }), "bucket checkpoint 27 it says that event 27 was stored at"},
		"of another order":        {at(func(c *projections.Checkpoint) { c.Digest++ }), "bucket checkpoint 27 the events up to 27 are not those that the service has folded"},
		"of a longer log":         {at(func(c *projections.Checkpoint) { c.Seq = 28 }), "bucket checkpoint 28 the bucket is at event 28, and the log ends at 27"},
		"that trails": {func(l *log, _ bucket) {
			l.add(def, events.DefinitionUpdated{})
			l.seal()
		}, ""},
		"the log's end is wrong behind it": {func(l *log, _ bucket) {
			l.add(def, events.DefinitionAdded{})
			l.seal()
		}, "transition 28 definition.added.v1: the definition exists"},
		"in another form": {func(_ *log, b bucket) { b[def] = append(b[def], '\n') }, ""},
	} {
		l := life()
		l.seal()
		b := bucketOf(l)
		c.harm(l, b)
		found, _ := run(t, l, b)
		checkFound(t, name, c.want, found)
	}
}

// moving is a bucket that the service writes to: what it is at each look.
type moving struct {
	bucket
	looks []func(b bucket)
}

func (m *moving) Read(ctx context.Context, keys ...events.Key) ([]projections.Entry, error) {
	if len(m.looks) > 0 {
		m.looks[0](m.bucket)
		m.looks = m.looks[1:]
	}
	return m.bucket.Read(ctx, keys...)
}

// TestRun_Moving has the bucket between two checkpoints at first, and further on at the
// second look: the fold follows it.
func TestRun_Moving(t *testing.T) {
	l := life()
	l.seal()
	early := bucketOf(l)
	l.add(def, events.DefinitionUpdated{})
	l.add(events.DefinitionKey("e"), events.DefinitionAdded{})
	l.add(def, events.DefinitionRemoved{})
	l.seal()
	late := bucketOf(l)
	become := func(b bucket, other bucket) {
		clear(b)
		maps.Copy(b, other)
	}
	m := &moving{bucket: bucket{}, looks: []func(bucket){
		func(b bucket) {
			become(b, early)
			b.checkpoint(func(c *projections.Checkpoint) { c.To = 28 })
		},
		func(b bucket) {
			become(b, early)
			b[def] = []byte("being written")
			b["definition.e"] = late["definition.e"]
		},
		func(b bucket) { b.checkpoint(func(c *projections.Checkpoint) { c.To = 30 }) },
		func(b bucket) { become(b, late) },
	}}
	found, s := run(t, l, m)
	if len(found) > 0 || s.Checkpoint != 30 || s.Documents != len(late)-1 {
		t.Errorf("%+v of %d, found %s", s, len(late)-1, strings.Join(found, "\n"))
	}
}

// TestRun_Rebuild has the bucket made anew for longer than verify waits: nothing is said to
// be wrong with it.
func TestRun_Rebuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := life()
		l.seal()
		b := bucketOf(l)
		b.checkpoint(func(c *projections.Checkpoint) { c.FoldVersion, c.Rebuild = -1, "r" })
		found, s := run(t, l, b)
		checkFound(t, "a rebuild", "bucket checkpoint 0 the bucket is being made anew", found)
		if s.Compared {
			t.Errorf("it was compared: %+v", s)
		}
	})
}

// TestRun_Unsealed has a log that an older epum has begun.
func TestRun_Unsealed(t *testing.T) {
	l := life()
	for n := range l.messages {
		l.messages[n].loose = n < 10
	}
	l.seal()
	for _, c := range []struct {
		from uint64
		want string
	}{{0, ""}, {11, ""}, {10, "seal 10 it has no seal; events are sealed from 10 on"}} {
		found, s := run(t, l, bucketOf(l), func(cfg *verify.Config) { cfg.SealedFrom = c.from })
		checkFound(t, "unsealed", c.want, found)
		if want := uint64(10 - len(found)); s.Unsealed != want {
			t.Errorf("from %d: %d unsealed, not %d", c.from, s.Unsealed, want)
		}
	}
	l.at(20).drop(events.HeaderSeal)
	found, _ := run(t, l, bucketOf(l), func(cfg *verify.Config) { cfg.SealedFrom = 0 })
	checkFound(t, "one in between", "seal 20 it has no seal; events are sealed from 11 on", found)
}

// TestRun_Ends gives the error of Report, and of what cannot be read.
func TestRun_Ends(t *testing.T) {
	l := life()
	l.seal()
	l.at(3).set(events.HeaderSeal, "x")
	enough := errors.New("enough")
	calls := 0
	_, err := verify.Run(t.Context(), verify.Config{Log: l, Bucket: bucketOf(l), Report: func(verify.Finding) error { calls++; return enough }})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b := bucketOf(l)
	b.checkpoint(func(c *projections.Checkpoint) { c.To = 99 })
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := verify.Run(ctx, verify.Config{Log: l, Bucket: b, Report: func(verify.Finding) error { return nil }}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
