package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/service"
	"github.com/seed-524e47bf/epum/events"
)

func (a *app) domainWatch() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Show the changes of a domain as they happen",
		Long: `Show how a domain, its instances and its engine's decisions are, and then each change as it happens, one a line, until
Ctrl-C. With -o json each line is a document with time, kind, id, operation (put or delete) and document. A domain that is not there yet
is waited for.`,
		Example:           "  epum domain watch shop\n  epum domain watch shop -o json | jq .document.state",
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
		RunE: a.run(func(ctx context.Context, args []string) error {
			if err := events.CheckName(args[0]); err != nil {
				return usageError("domain %q: %v", args[0], err)
			}
			return a.with(ctx, a.logger(slog.LevelWarn, service.LogTint), func(s *session) error { return s.watch(args[0]) })
		}),
	}
}

func (s *session) watch(domain string) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.app.timeout)
	defer cancel()
	bucket, err := s.bucket(ctx)
	if errors.Is(err, natsjs.ErrBucketNotFound) {
		return s.neverRan()
	}
	if err != nil {
		return s.fault("watch", err)
	}
	id := events.DomainID{Owner: s.owner, Name: domain}
	watcher, err := bucket.WatchFiltered(s.ctx, []string{string(id.Key()), string(id.DecisionKey()), string(id.AllInstances())})
	if err != nil {
		return s.fault("watch", err)
	}
	defer func() { _ = watcher.Stop() }() // nothing can be done about it, the connection closes next
	w := &watch{app: s.app, seen: map[events.Key][]byte{}}
	for {
		select {
		case <-s.ctx.Done():
			if refused, ok := errors.AsType[*fault](context.Cause(s.ctx)); ok {
				return refused
			}
			return nil
		case entry, open := <-watcher.Updates():
			switch {
			case !open:
				return &fault{code: exitUnavailable, message: "the connection to the server is lost"}
			case entry == nil: // everything that was there has been told
				if w.seen[id.Key()] == nil {
					fmt.Fprintf(s.app.stderr, "epum: owner %s has no domain %q yet; waiting for it\n", s.owner, domain)
				}
				continue
			}
			if err := w.tell(entry); err != nil {
				return err
			}
		}
	}
}

// watch tells of changes.
type watch struct {
	app  *app
	seen map[events.Key][]byte // document → as it was told last
}

// change is one line of -o json.
type change struct {
	Time      time.Time       `json:"time"`
	Kind      events.Kind     `json:"kind"`
	ID        string          `json:"id"` // the instance's; the domain's name for the other kinds
	Operation string          `json:"operation"`
	Document  json.RawMessage `json:"document,omitempty"`
}

func (w *watch) tell(entry natsjs.KeyValueEntry) error {
	key := events.Key(entry.Key())
	domain, instance, ok := key.Parts()
	if !ok {
		return nil
	}
	c := change{Time: entry.Created(), Kind: key.Kind(), ID: domain.Name, Operation: "put", Document: entry.Value()}
	if instance != "" {
		c.ID = instance
	}
	before := w.seen[key]
	if entry.Operation() != natsjs.KeyValuePut {
		c.Operation, c.Document = "delete", nil
		if before == nil {
			return nil
		}
	}
	if c.Document != nil && bytes.Equal(before, c.Document) {
		return nil // a projector has written the bucket anew
	}
	w.seen[key] = c.Document
	if w.app.output == outputJSON {
		line, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("document %s: %w", key, err)
		}
		return w.app.printJSON(line)
	}
	text := "gone"
	if c.Document != nil {
		text = w.describe(key, before, c.Document)
	}
	return w.app.print(fmt.Sprintf(
		"%s  %-8s  %-36s  %s\n", c.Time.Local().Format(time.TimeOnly), c.Kind, clean(c.ID), strings.TrimSpace(text),
	))
}

// describe says what a document is, or what has become of it.
func (w *watch) describe(key events.Key, before, data []byte) string {
	doc, err := events.DecodeDocument(key, data)
	if err != nil {
		return "a document that this program cannot read: " + clean(err.Error())
	}
	switch doc := doc.(type) {
	case *events.Instance:
		info := trouble(doc.State, doc.Health, doc.Errors, doc.Fields.Get)
		if pid := plain(doc.Fields.Get("pid")); info == "" && pid != "" {
			info = "pid " + pid
		}
		return strings.Join([]string{w.app.paintState(doc.State), w.app.paintHealth(doc.Health), info}, "  ")
	case *events.Domain:
		return domainChange(key, before, doc)
	case *events.Decision:
		return string(doc.EngineState) + "  " + clean(doc.Reason)
	}
	return ""
}

func domainChange(key events.Key, before []byte, doc *events.Domain) string {
	if doc.Removed {
		return "is being removed"
	}
	definition := "definition " + clean(doc.DefinitionID)
	if before == nil {
		return definition
	}
	old, err := events.DecodeDocument(key, before)
	was, ok := old.(*events.Domain)
	switch {
	case err != nil || !ok || was.AddedSeq != doc.AddedSeq:
		return "added again, " + definition
	case was.ConfigSeq != doc.ConfigSeq:
		return "reconfigured"
	case !slices.Equal(was.Subscribers, doc.Subscribers):
		return fmt.Sprintf("%d subscribers", len(doc.Subscribers))
	}
	return "changed"
}
