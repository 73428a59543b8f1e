package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// document is what a test looks at of a domain document.
type document struct {
	Name      string
	Instances []struct {
		ID string `json:"instance_id"`
	}
	Counts      map[events.InstanceState]int `json:"instance_counts"`
	EngineState events.EngineState           `json:"engine_state"`
	Next        string
	Seq         uint64
	AsOf        projections.AsOf `json:"as_of"`
}

func (d document) ids() []string {
	ids := []string{}
	for _, i := range d.Instances {
		ids = append(ids, i.ID)
	}
	return ids
}

func describe(t *testing.T, r *projections.Reader, after string, limit int) document {
	t.Helper()
	data, err := r.DescribeDomain(t.Context(), dom, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReader_DomainDocument(t *testing.T) {
	log := newLog()
	log.add(dom.Key(), events.DomainAdded{DefinitionID: "def", Config: events.Config{EngineConf: json.RawMessage(`{"preserve_n":2}`)}})
	empty := `{"name":"d","owner":"o","definition_id":"def","config":{"general":{},"health":{},"engine_conf":{"preserve_n":2}},"sensor_data":{},` +
		`"instances":[],"subscribers":[],"engine_state":"PENDING_DE","removed":false,"instance_counts":{},"seq":1,"as_of":{"seq":1,"time":"2026-01-01T00:00:01Z"}}`
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	want := func(document string) {
		t.Helper()
		got, err := reader.DescribeDomain(t.Context(), dom, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(document, string(got)); diff != "" {
			t.Error(diff)
		}
	}
	want(empty)
	log.add(dom.Key(), events.DomainSubscribed{SubscriberName: "s", SubscriberOp: "op"})
	log.add(dom.Key(), events.DomainRemovalRequested{})
	log.add(dom.InstanceKey("i1"), events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "small", Attempt: 2})
	log.add(dom.InstanceKey("i1"), events.StateChanged{State: events.Running, Fields: events.Fields{{Name: "public_ip", Value: json.RawMessage(`"1.2.3.4"`)}}})
	log.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 1, EngineState: events.EngineStable})
	full := `{"name":"d","owner":"o","definition_id":"def","config":{"general":{},"health":{},"engine_conf":{"preserve_n":2}},"sensor_data":{},` +
		`"instances":[{"instance_id":"i1","launch_id":"l","deployable_type":"w","site":"s","allocation":"small","state":"600-RUNNING",` +
		`"state_time":"2026-01-01T00:00:05Z","health":"UNKNOWN","errors":[],"error_time":null,"extravars":{},"public_ip":"1.2.3.4","seq":5}],` +
		`"subscribers":[{"subscriber_name":"s","subscriber_op":"op"}],"engine_state":"STABLE_DE","removed":true,"instance_counts":{"600-RUNNING":1},` +
		`"seq":3,"as_of":{"seq":6,"time":"2026-01-01T00:00:06Z"}}`
	want(full)
	bucket.set(log.fold(6))
	want(full) // the bucket gives the same document
	log.add(dom.DecisionKey(), events.DecisionMade{DomainSeq: 99, EngineState: events.EngineStable})
	if got := describe(t, reader, "", 0).EngineState; got != events.EnginePending {
		t.Errorf("engine state %s of another life of the name", got)
	}
}

// TestReader_Source: the bucket answers only where it shows all that the log had
// when the question came in; else the replica does.
func TestReader_Source(t *testing.T) {
	tests := []struct {
		name   string
		change func(*memBucket, *projections.Checkpoint)
		bucket bool
	}{
		{"as new as the log", func(*memBucket, *projections.Checkpoint) {}, true},
		{"newer", func(_ *memBucket, c *projections.Checkpoint) { c.Seq = 4 }, true},
		{"older", func(_ *memBucket, c *projections.Checkpoint) { c.Seq = 2 }, false},
		{"between two states", func(_ *memBucket, c *projections.Checkpoint) { c.To = 4 }, false},
		{"of another fold", func(_ *memBucket, c *projections.Checkpoint) { c.FoldVersion++ }, false},
		{"of another log", func(_ *memBucket, c *projections.Checkpoint) { c.Created = at(1) }, false},
		{"too many documents", func(b *memBucket, _ *projections.Checkpoint) { b.readErr = projections.ErrTooMany }, false},
		{"no answer", func(b *memBucket, _ *projections.Checkpoint) { b.readErr = errors.New("timeout") }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := newLog()
			log.add(dom.Key(), events.DomainAdded{DefinitionID: "x"})
			log.add(events.DefinitionKey("x"), events.DefinitionAdded{})
			log.add(dom.InstanceKey("log"), events.LaunchRequested{})
			bucket := &memBucket{}
			reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
			// What the bucket says is another log's, to see who answers.
			other := newLog()
			other.add(dom.Key(), events.DomainAdded{DefinitionID: "x"})
			other.add(events.DefinitionKey("bucket"), events.DefinitionAdded{})
			other.add(dom.InstanceKey("bucket"), events.LaunchRequested{})
			bucket.set(other.fold(3), func(c *projections.Checkpoint) { tt.change(bucket, c) })
			wantID, wantNames := "log", []string{"x"}
			if tt.bucket {
				wantID, wantNames = "bucket", []string{"bucket"}
			}
			if diff := cmp.Diff([]string{wantID}, describe(t, reader, "", 0).ids()); diff != "" {
				t.Error(diff)
			}
			names, _, err := reader.ListDefinitions(t.Context(), "", 0)
			if diff := cmp.Diff(wantNames, names); diff != "" || err != nil {
				t.Error(diff, err)
			}
			if _, err := reader.DescribeDefinition(t.Context(), wantNames[0]); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("documents that cannot be read", func(t *testing.T) {
		log := newLog()
		log.add(dom.Key(), events.DomainAdded{})
		bucket := &memBucket{}
		reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
		bucket.set(log.fold(1))
		bucket.mu.Lock()
		bucket.docs[dom.InstanceKey("i")] = "{"
		bucket.mu.Unlock()
		if got := describe(t, reader, "", 0).ids(); len(got) != 0 {
			t.Errorf("instances %q", got)
		}
	})
}

func TestReader_Errors(t *testing.T) {
	log := newLog()
	log.add(dom.Key(), events.DomainAdded{})
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	if _, err := reader.DescribeDomain(t.Context(), events.DomainID{Owner: "p", Name: "d"}, "", 0); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("another owner's domain: %v", err)
	}
	if _, err := reader.DescribeDefinition(t.Context(), "x"); !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("no such definition: %v", err)
	}
	// The log goes on, the replica does not: nothing old is given.
	log.setDeaf(true)
	log.add(dom.Key(), events.DomainRemovalRequested{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := reader.DescribeDomain(ctx, dom, "", 0); !errors.Is(err, projections.ErrNoQuorum) {
		t.Errorf("replica behind: %v", err)
	}
	log.mu.Lock()
	log.end = func(context.Context, int) (projections.Position, error) {
		return projections.Position{}, projections.ErrNoQuorum
	}
	log.mu.Unlock()
	if _, _, err := reader.ListDomains(t.Context(), "o", "", 0); !errors.Is(err, projections.ErrNoQuorum) {
		t.Errorf("no quorum: %v", err)
	}
}

func TestReader_ListPages(t *testing.T) {
	log := newLog()
	names := []string{"b", "a", "é", "-", "a.b", "B", "a-b"}
	for _, name := range names {
		log.add(events.DomainID{Owner: "o", Name: name}.Key(), events.DomainAdded{})
		log.add(events.DefinitionKey(name), events.DefinitionAdded{})
	}
	log.add(events.DomainID{Owner: "o2", Name: "theirs"}.Key(), events.DomainAdded{})
	log.add(events.DomainID{Owner: "o", Name: "b"}.Key(), events.DomainRemovalRequested{}) // is still there
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	tests := []struct {
		after string
		limit int
		want  []string
		next  string
	}{
		{"", 0, []string{"-", "B", "a", "a-b", "a.b", "b", "é"}, ""},
		{"", 7, []string{"-", "B", "a", "a-b", "a.b", "b", "é"}, ""},
		{"", 6, []string{"-", "B", "a", "a-b", "a.b", "b"}, "b"},
		{"", 1, []string{"-"}, "-"},
		{"a", 2, []string{"a-b", "a.b"}, "a.b"},
		{"a!", 2, []string{"a-b", "a.b"}, "a.b"}, // need not exist
		{"b", 1, []string{"é"}, ""},
		{"é", 1, []string{}, ""},
		{"zz", 1, []string{"é"}, ""},
	}
	for _, tt := range tests {
		for what, list := range map[string]func() ([]string, string, error){
			"domains":     func() ([]string, string, error) { return reader.ListDomains(t.Context(), "o", tt.after, tt.limit) },
			"definitions": func() ([]string, string, error) { return reader.ListDefinitions(t.Context(), tt.after, tt.limit) },
		} {
			got, next, err := list()
			if diff := cmp.Diff(tt.want, got); diff != "" || next != tt.next || err != nil {
				t.Errorf("%s after %q, at most %d: next %q, %v\n%s", what, tt.after, tt.limit, next, err, diff)
			}
		}
	}
	if got, next, err := reader.ListDomains(t.Context(), "nobody", "", 0); got == nil || len(got) != 0 || next != "" || err != nil {
		t.Errorf("of nobody: %q, %q, %v; want an empty list", got, next, err)
	}
}

func TestReader_InstancePages(t *testing.T) {
	log := newLog()
	log.add(dom.Key(), events.DomainAdded{})
	for n := range 5 {
		log.add(dom.InstanceKey(fmt.Sprint("i", n)), events.LaunchRequested{})
	}
	log.add(dom.InstanceKey("i4"), events.StateChanged{State: events.Running})
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	for _, tt := range []struct {
		after string
		limit int
		want  []string
		next  string
	}{
		{"", 0, []string{"i0", "i1", "i2", "i3", "i4"}, ""},
		{"", 5, []string{"i0", "i1", "i2", "i3", "i4"}, ""},
		{"", 4, []string{"i0", "i1", "i2", "i3"}, "i3"},
		{"i1", 2, []string{"i2", "i3"}, "i3"},
		{"i11", 9, []string{"i2", "i3", "i4"}, ""},
		{"i4", 1, []string{}, ""},
	} {
		d := describe(t, reader, tt.after, tt.limit)
		if diff := cmp.Diff(tt.want, d.ids()); diff != "" || d.Next != tt.next {
			t.Errorf("after %q, at most %d: next %q\n%s", tt.after, tt.limit, d.Next, diff)
		}
		if diff := cmp.Diff(map[events.InstanceState]int{events.Requesting: 4, events.Running: 1}, d.Counts); diff != "" {
			t.Errorf("counts are not of all: %s", diff)
		}
	}
	want := projections.Counts{Domains: 1, Instances: map[events.InstanceState]int{events.Requesting: 4, events.Running: 1}}
	if diff := cmp.Diff(want, reader.Counts(time.Hour)); diff != "" {
		t.Error(diff)
	}
}

// TestReader_DefaultLimit: a thousand, where the caller names none.
func TestReader_DefaultLimit(t *testing.T) {
	log := newLog()
	log.add(dom.Key(), events.DomainAdded{})
	for n := range projections.MostShown + 1 {
		log.add(dom.InstanceKey(fmt.Sprintf("i%04d", n)), events.LaunchRequested{})
		log.add(events.DefinitionKey(fmt.Sprintf("x%04d", n)), events.DefinitionAdded{})
	}
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	if d := describe(t, reader, "", 0); len(d.Instances) != 1000 || d.Next != "i0999" {
		t.Errorf("%d instances, next %q", len(d.Instances), d.Next)
	}
	if names, next, err := reader.ListDefinitions(t.Context(), "", 0); len(names) != 1000 || next != "x0999" || err != nil {
		t.Errorf("%d names, next %q, %v", len(names), next, err)
	}
}

// TestReader_LargeInstances: a page holds what fits a message, and at least one.
func TestReader_LargeInstances(t *testing.T) {
	log := newLog()
	log.add(dom.Key(), events.DomainAdded{})
	var all []string
	add := func(id string, kib int) {
		all = append(all, id)
		big, err := json.Marshal(strings.Repeat("x", kib<<10))
		if err != nil {
			t.Fatal(err)
		}
		log.add(dom.InstanceKey(id), events.LaunchRequested{})
		log.add(dom.InstanceKey(id), events.StateChanged{State: events.Pending, Fields: events.Fields{{Name: "big", Value: big}}})
	}
	for n := range 25 {
		add(fmt.Sprintf("i%02d", n), 60)
	}
	add("j", 700)
	add("k", 1)
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	var got []string
	var pages []int
	for after := ""; ; {
		d := describe(t, reader, after, 0)
		got, pages = append(got, d.ids()...), append(pages, len(d.Instances))
		after = d.Next
		if after == "" {
			break
		}
		if !slices.Contains(d.ids(), after) || len(pages) > 10 {
			t.Fatalf("next is %q of %q", after, d.ids())
		}
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("all pages together: %s", diff)
	}
	if diff := cmp.Diff([]int{9, 9, 7, 1, 1}, pages); diff != "" {
		t.Errorf("sizes of the pages: %s", diff)
	}
}

// TestReader_LargeDomain: whatever a domain has beside its instances, the document
// fits a message.
func TestReader_LargeDomain(t *testing.T) {
	log := newLog()
	vars := fmt.Sprintf(`{"preserve_n":1,"provisioner_vars":{"v":%q}}`, strings.Repeat("x", 250<<10))
	log.add(dom.Key(), events.DomainAdded{DefinitionID: "def", Config: events.Config{EngineConf: json.RawMessage(vars)}})
	for n := range 1000 {
		name := fmt.Sprintf("%0128d", n)
		log.add(dom.Key(), events.DomainSubscribed{SubscriberName: name, SubscriberOp: name})
	}
	var want []string
	for n := range 600 {
		id := fmt.Sprintf("i%03d", n)
		want = append(want, id)
		log.add(dom.InstanceKey(id), events.LaunchRequested{LaunchID: "l", DeployableType: "w", Site: "s", Allocation: "small", ExtraVars: json.RawMessage(fmt.Sprintf(`{"v":%q}`, strings.Repeat("y", 900)))})
	}
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	got := []string{}
	for after := ""; ; {
		data, err := reader.DescribeDomain(t.Context(), dom, after, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 1<<20 {
			t.Fatalf("a document of %d bytes fits no message", len(data))
		}
		d := describe(t, reader, after, 0)
		got = append(got, d.ids()...)
		if after = d.Next; after == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReader_CheckpointSeq(t *testing.T) {
	log := newLog()
	log.add(dom.Key(), events.DomainAdded{})
	bucket := &memBucket{}
	reader := projections.NewReader(follow(t, log, bucket), bucket, nil)
	if got := reader.CheckpointSeq(t.Context()); got != 0 {
		t.Errorf("no bucket: %d", got)
	}
	bucket.set(log.fold(1))
	if got := reader.CheckpointSeq(t.Context()); got != 1 {
		t.Errorf("got %d, want 1", got)
	}
	bucket.set(log.fold(1), func(c *projections.Checkpoint) { c.FoldVersion++ })
	if got := reader.CheckpointSeq(t.Context()); got != 0 {
		t.Errorf("of another fold: %d", got)
	}
}
