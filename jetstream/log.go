package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// followerFresh is how lately a follower must have been heard by the stream's
// leader to count for a quorum (design §2, 5).
const followerFresh = 2 * time.Second

// Log is the event log of a cell. It is safe for concurrent use.
type Log struct {
	nc     *nats.Conn
	pub    *publisher
	prefix events.Prefix
	stream string
	source string // ce-source of what this process appends
	log    *slog.Logger
	causes *causes
	origin *projections.Origin
}

var (
	_ projections.Source = (*Log)(nil)
	_ projections.Annals = (*Log)(nil)
)

// Log is the cell's event log.
func (c *Cell) Log() *Log {
	return &Log{
		nc:     c.nc,
		pub:    c.pub,
		prefix: c.cfg.Prefix,
		stream: c.streams.events.Name,
		source: "/" + string(c.cfg.Prefix) + "/" + c.cfg.Process,
		log:    c.cfg.Logger,
		causes: &causes{},
		origin: projections.NewOrigin(c.Purged()),
	}
}

// End asks the stream's leader for the log's last sequence. On a replicated
// stream the answer counts only if it names a leader and so many followers were
// heard in the last 2 s that together they are a quorum; the error wraps
// projections.ErrNoQuorum otherwise, and where nobody answers.
func (l *Log) End(ctx context.Context) (projections.Position, error) {
	info, err := streamInfo(ctx, l.nc, l.stream)
	if err != nil {
		return projections.Position{}, fmt.Errorf("end of the log: %w", err)
	}
	if err := quorum(info.Config.Replicas, info.Cluster); err != nil {
		return projections.Position{}, fmt.Errorf("end of the log: %w: %w", projections.ErrNoQuorum, err)
	}
	p := projections.Position{Seq: info.State.LastSeq, Created: info.Created.UTC()}
	if info.Cluster != nil && info.Config.Replicas > 1 {
		p.Leader, p.Said = info.Cluster.Leader, info.TimeStamp
	}
	if p.Seq > 0 {
		p.Time = info.State.LastTime.UTC()
	}
	return p, nil
}

// streamInfo asks a stream's leader how the stream is. The error wraps
// projections.ErrNoQuorum where nobody answers or the server refuses.
func streamInfo(ctx context.Context, nc *nats.Conn, stream string) (natsjs.StreamInfo, error) {
	var answer struct {
		natsjs.StreamInfo
		Error *apiError `json:"error"`
	}
	err := askAPI(ctx, nc, "STREAM.INFO."+stream, struct{}{}, &answer)
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("%w: %w", projections.ErrNoQuorum, answer.Error)
	}
	return answer.StreamInfo, err
}

// quorum checks that a stream's answer comes from a leader that is not cut off.
func quorum(replicas int, cluster *natsjs.ClusterInfo) error {
	if cluster == nil {
		if replicas > 1 {
			return errors.New("the stream is replicated, but the answer names no cluster")
		}
		return nil
	}
	if cluster.Leader == "" {
		return errors.New("the stream has no leader")
	}
	heard := 1 // the leader itself
	for _, peer := range cluster.Replicas {
		// A peer that was never heard has no age either, and is not current.
		if !peer.Offline && peer.Active < followerFresh && (peer.Active > 0 || peer.Current) {
			heard++
		}
	}
	all := max(replicas, len(cluster.Replicas)+1)
	if heard <= all/2 {
		return fmt.Errorf("the stream's leader %s hears %d of %d replicas, itself included", cluster.Leader, heard, all)
	}
	return nil
}

// EventID gives the ce-id of the event at a sequence, from the stream's leader;
// projections.ErrNotFound where there is none, projections.ErrNoQuorum where
// nobody answers.
func (l *Log) EventID(ctx context.Context, seq uint64) (string, error) {
	if seq == 0 {
		return "", fmt.Errorf("event 0: %w", projections.ErrNotFound)
	}
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Seq: seq})
	if err != nil {
		return "", fmt.Errorf("event %d: %w", seq, err)
	}
	return events.Header(m.header, events.HeaderID), nil
}

// TimeOf gives the timestamp of the event at a sequence, UTC, on the terms of EventID.
func (l *Log) TimeOf(ctx context.Context, seq uint64) (time.Time, error) {
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Seq: seq})
	if err != nil {
		return time.Time{}, fmt.Errorf("event %d: %w", seq, err)
	}
	return m.Time.UTC(), nil
}

// Last gives the last event of a key, from the stream's leader;
// projections.ErrNotFound where there is none, projections.ErrNoQuorum where
// nobody answers.
func (l *Log) Last(ctx context.Context, key events.Key) (projections.LastEvent, error) {
	m, err := readStored(ctx, l.nc, get{stream: l.stream, Last: l.prefix.Event(key)})
	if err != nil {
		return projections.LastEvent{}, fmt.Errorf("last event of %s: %w", key, err)
	}
	return projections.LastEvent{
		Seq:  m.Seq,
		ID:   events.Header(m.header, events.HeaderID),
		Type: events.Header(m.header, events.HeaderType),
	}, nil
}

func noQuorum(err error) bool { return errors.Is(err, projections.ErrNoQuorum) }
