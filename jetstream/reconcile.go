package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// reconcilePatience bounds how long the settings of one stream are fought for:
// with other processes that do the same, or with a cluster that has no leader yet.
const reconcilePatience = 20 * time.Second

// requestPatience bounds one request of it: a cluster that is just placing a
// stream leaves some unanswered.
const requestPatience = 3 * time.Second

// setting is one setting of a stream, as it is and as it should be.
type setting struct {
	name       string
	have, want any
	fixed      bool // an update cannot change it
}

func (s setting) String() string {
	return fmt.Sprintf("%s is %v, must be %v", s.name, s.have, s.want)
}

// reconcile creates a stream, or updates it to what it should be.
func reconcile(ctx context.Context, js natsjs.JetStream, want natsjs.StreamConfig, log *slog.Logger) error {
	return settle(ctx, "stream "+want.Name, func(ctx context.Context) error { return reconcileOnce(ctx, js, want, log) })
}

// settle repeats a change while its error may go by itself.
func settle(ctx context.Context, what string, once func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, reconcilePatience)
	defer cancel()
	pause := newPause(20*time.Millisecond, time.Second)
	for {
		attempt, end := context.WithTimeout(ctx, requestPatience)
		err := once(attempt)
		end()
		if err == nil || !passing(err) {
			return err
		}
		if !pause.wait(ctx) {
			return fmt.Errorf("jetstream: reconcile %s: %w", what, err)
		}
	}
}

// passing tells whether an error may go by itself: another process is at it
// too, or the cluster is not ready.
func passing(err error) bool {
	if api, ok := errors.AsType[*natsjs.APIError](err); ok {
		switch api.ErrorCode {
		case codeStreamNameInUse, codeStreamNotFound, codeConsumerExists, codeClusterUnavailable, codeNotLeader, codeNoPeers, codeReconfiguring:
			return true
		}
		return api.Code == 503
	}
	return errors.Is(err, context.DeadlineExceeded) || noAnswer(err)
}

func reconcileOnce(ctx context.Context, js natsjs.JetStream, want natsjs.StreamConfig, log *slog.Logger) error {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		if _, err = js.CreateStream(ctx, want); err == nil {
			log.Info("stream created", "stream", want.Name)
			return nil
		}
		return fmt.Errorf("jetstream: create stream %s: %w", want.Name, err)
	}
	if err != nil {
		return fmt.Errorf("jetstream: look up stream %s: %w", want.Name, err)
	}
	have := stream.CachedInfo().Config
	next := adjusted(have, want)
	diff := difference(have, next)
	if len(diff) == 0 {
		return nil
	}
	for _, s := range diff {
		if s.fixed {
			return fmt.Errorf("%w: stream %s: %s", ErrIncompatible, want.Name, describe(diff))
		}
	}
	if _, err := js.UpdateStream(ctx, next); err != nil {
		if passing(err) {
			return err
		}
		return fmt.Errorf("%w: stream %s: %s: %w", ErrIncompatible, want.Name, describe(diff), err)
	}
	log.Info("stream updated", "stream", want.Name, "changes", describe(diff))
	return nil
}

func describe(diff []setting) string {
	texts := make([]string, len(diff))
	for n, s := range diff {
		texts[n] = s.String()
	}
	return strings.Join(texts, "; ")
}

// adjusted is have with every setting that epum relies on as in want. The rest
// is the operator's: placement, compression, metadata, more replicas, and the
// limits of a stream that nothing is folded from.
func adjusted(have, want natsjs.StreamConfig) natsjs.StreamConfig {
	next := have
	next.Subjects = want.Subjects
	next.Retention, next.Storage = want.Retention, want.Storage
	next.Discard, next.DiscardNewPerSubject = want.Discard, false
	next.MaxMsgsPerSubject, next.MaxConsumers = want.MaxMsgsPerSubject, want.MaxConsumers
	if want.AllowAtomicPublish || want.Retention == natsjs.WorkQueuePolicy || want.MaxAge > 0 {
		next.MaxMsgs, next.MaxBytes, next.MaxMsgSize, next.MaxAge = want.MaxMsgs, want.MaxBytes, want.MaxMsgSize, want.MaxAge
	}
	if next.Replicas < want.Replicas {
		next.Replicas = want.Replicas
	}
	if want.Duplicates > 0 {
		next.Duplicates = want.Duplicates
	}
	next.NoAck, next.Sealed = false, false
	next.DenyDelete, next.DenyPurge = want.DenyDelete, want.DenyPurge
	next.AllowRollup, next.AllowDirect = want.AllowRollup, want.AllowDirect
	next.AllowMsgTTL, next.SubjectDeleteMarkerTTL = want.AllowMsgTTL, want.SubjectDeleteMarkerTTL
	next.AllowMsgCounter, next.AllowMsgSchedules = false, false
	next.AllowAtomicPublish = want.AllowAtomicPublish
	next.Mirror, next.Sources, next.SubjectTransform = nil, nil, nil
	return next
}

// difference lists the settings that adjusted may change.
func difference(have, next natsjs.StreamConfig) []setting {
	all := []setting{
		{"subjects", have.Subjects, next.Subjects, false},
		{"retention", have.Retention, next.Retention, true},
		{"storage", have.Storage, next.Storage, true},
		{"discard", have.Discard, next.Discard, false},
		{"discard_new_per_subject", have.DiscardNewPerSubject, next.DiscardNewPerSubject, false},
		{"max_msgs_per_subject", have.MaxMsgsPerSubject, next.MaxMsgsPerSubject, false},
		{"max_consumers", have.MaxConsumers, next.MaxConsumers, true},
		{"max_msgs", have.MaxMsgs, next.MaxMsgs, false},
		{"max_bytes", have.MaxBytes, next.MaxBytes, false},
		{"max_msg_size", have.MaxMsgSize, next.MaxMsgSize, false},
		{"max_age", have.MaxAge, next.MaxAge, false},
		{"num_replicas", have.Replicas, next.Replicas, false},
		{"duplicate_window", have.Duplicates, next.Duplicates, false},
		{"no_ack", have.NoAck, next.NoAck, false},
		{"sealed", have.Sealed, next.Sealed, true},
		{"deny_delete", have.DenyDelete, next.DenyDelete, have.DenyDelete},
		{"deny_purge", have.DenyPurge, next.DenyPurge, have.DenyPurge},
		{"allow_rollup_hdrs", have.AllowRollup, next.AllowRollup, false},
		{"allow_direct", have.AllowDirect, next.AllowDirect, false},
		{"allow_msg_ttl", have.AllowMsgTTL, next.AllowMsgTTL, have.AllowMsgTTL},
		{"subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, next.SubjectDeleteMarkerTTL, false},
		{"allow_msg_counter", have.AllowMsgCounter, next.AllowMsgCounter, true},
		{"allow_msg_schedules", have.AllowMsgSchedules, next.AllowMsgSchedules, have.AllowMsgSchedules},
		{"allow_atomic", have.AllowAtomicPublish, next.AllowAtomicPublish, false},
		{"mirror", have.Mirror, next.Mirror, true},
		{"sources", have.Sources, next.Sources, true},
		{"subject_transform", have.SubjectTransform, next.SubjectTransform, false},
	}
	var diff []setting
	for _, s := range all {
		if !reflect.DeepEqual(s.have, s.want) {
			diff = append(diff, s)
		}
	}
	return diff
}
