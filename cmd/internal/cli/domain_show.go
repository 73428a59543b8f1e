package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

func (a *app) domainList() *cobra.Command {
	var page paging
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List your domains",
		Long:    "List the names of your domains, sorted. Removed ones are among them until their last instance is gone.",
		Example: "  epum domain list\n  epum domain list --as alice -o json",
		Aliases: []string{"ls"},
		Args:    exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.with(ctx, nil, func(s *session) error {
				return s.list(page, natsapi.OpListDomains, "domains")
			})
		}),
	}
	page.flags(cmd, "domains")
	return cmd
}

// list prints names, one a line, so that they can be piped.
func (s *session) list(page paging, op, what string) error {
	reply, err := page.read(s, op, "", what)
	if err != nil {
		return err
	}
	if s.app.output == outputJSON {
		return s.app.printJSON(reply)
	}
	items, next, err := pageOf(reply, what)
	if err != nil {
		return fmt.Errorf("%s: the reply cannot be read: %w", op, err)
	}
	if len(items) == 0 {
		fmt.Fprintf(s.app.stderr, "epum: no %s\n", what)
	}
	var b strings.Builder
	for _, item := range items {
		b.WriteString(plain(item) + "\n")
	}
	if err := s.app.print(b.String()); err != nil {
		return err
	}
	s.app.noteNext(next)
	return nil
}

func (a *app) domainDescribe() *cobra.Command {
	var page paging
	var asOf pointFlag
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a domain and its instances",
		Long: `Show a domain: its config, what its engine last decided and why, and its instances. The age of an instance is the time
in its present state; the last column says what is known about why it failed.

With --as-of it shows the domain as it was at a point of the log, from the log alone: all but what was read of its metrics.`,
		Example:           "  epum domain describe shop\n  epum domain describe shop --limit 20\n  epum domain describe shop --as-of 2h -o json",
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
		RunE: a.domain(func(s *session, args []string) error {
			page.asOf = asOf.point
			stop := a.waiting("describe")
			reply, err := page.read(s, natsapi.OpDescribeDomain, args[0], "instances")
			stop()
			if err != nil {
				return err
			}
			if a.output == outputJSON {
				return a.printJSON(reply)
			}
			var doc domainDocument
			if err := json.Unmarshal(reply, &doc); err != nil {
				return fmt.Errorf("the reply cannot be read: %w", err)
			}
			now, decision := time.Now(), events.Decision{}
			if asOf.text != "" {
				now = doc.AsOf.Time
			} else {
				decision = s.lastDecision(doc)
			}
			if err := a.printDomain(doc, decision, now); err != nil {
				return err
			}
			a.noteNext(doc.Next)
			return nil
		}),
	}
	page.flags(cmd, "instances")
	asOf.flag(cmd)
	return cmd
}

// domainDocument is a domain as a person is shown it.
type domainDocument struct {
	natsapi.DomainDocument
	Instances []shownInstance `json:"instances"`
}

// shownInstance is an instance with whatever was reported of it.
type shownInstance map[string]json.RawMessage

func (i shownInstance) field(name string) json.RawMessage { return i[name] }

// row is the instance's line in the table.
func (i shownInstance) row(a *app, now time.Time) []string {
	var since time.Time
	var errs []json.RawMessage
	_ = json.Unmarshal(i["state_time"], &since) // what is not as it should be is left out
	_ = json.Unmarshal(i["errors"], &errs)
	state, health := events.InstanceState(plain(i["state"])), events.Health(plain(i["health"]))
	return []string{
		plain(i["instance_id"]), a.paintState(state), a.paintHealth(health), orDash(plain(i["pid"])), plain(i["site"]),
		age(since, now), trouble(state, health, errs, i.field),
	}
}

// lastDecision is the last decision of a domain's present life, from the state
// bucket; the zero one where there is none, or the bucket is not to be read: a
// description is good without it.
func (s *session) lastDecision(doc domainDocument) events.Decision {
	ctx, cancel := context.WithTimeout(s.ctx, s.app.timeout)
	defer cancel()
	id := events.DomainID{Owner: doc.Owner, Name: doc.Name}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return events.Decision{}
	}
	domain, isDomain := document(ctx, bucket, id.Key()).(*events.Domain)
	decision, isDecision := document(ctx, bucket, id.DecisionKey()).(*events.Decision)
	if !isDomain || !isDecision || decision.DomainSeq != domain.AddedSeq {
		return events.Decision{}
	}
	return *decision
}

// bucket opens the state bucket.
func (s *session) bucket(ctx context.Context) (natsjs.KeyValue, error) {
	js, err := natsjs.New(s.nc)
	if err != nil {
		return nil, err
	}
	return js.KeyValue(ctx, s.prefix.Stream(events.BucketState))
}

// document reads one document; nil where it cannot be had.
func document(ctx context.Context, bucket natsjs.KeyValue, key events.Key) events.Document {
	entry, err := bucket.Get(ctx, string(key))
	if err != nil {
		return nil
	}
	doc, err := events.DecodeDocument(key, entry.Value())
	if err != nil {
		return nil
	}
	return doc
}

// printDomain prints a domain as it was at a time.
func (a *app) printDomain(doc domainDocument, decision events.Decision, now time.Time) error {
	state := string(doc.EngineState)
	if doc.EngineState == events.EngineStable {
		state = a.paint(green, state)
	} else {
		state = a.paint(yellow, state)
	}
	removed, reason := "", clean(decision.Reason)
	if doc.Removed {
		removed = a.paint(yellow, "it vanishes when its last instance is gone")
	}
	if reason != "" {
		reason += " (" + age(decision.Time, now) + " ago)"
	}
	var subscribers []string
	for _, s := range doc.Subscribers {
		subscribers = append(subscribers, clean(s.Name)+" ("+clean(s.Op)+")")
	}
	pairs := []string{
		"Domain", clean(doc.Name), "Owner", clean(doc.Owner), "Definition", clean(doc.DefinitionID), "Removed", removed,
		"Engine", state, "Wanted", wanted(doc.Config.EngineConf), "Instances", counts(doc.InstanceCounts), "Reason", reason,
		"Subscribers", strings.Join(subscribers, ", "),
	}
	pairs = append(pairs, configFields(events.Config{
		General: doc.Config.General, EngineConf: doc.Config.EngineConf, Health: doc.Config.Health,
	})...)
	if err := a.printFields(pairs...); err != nil || len(doc.Instances) == 0 {
		return err
	}
	rows := make([][]string, len(doc.Instances))
	for n, i := range doc.Instances {
		rows[n] = i.row(a, now)
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	return a.printTable([]string{"INSTANCE", "STATE", "HEALTH", "PID", "SITE", "AGE", "INFO"}, rows)
}

// wanted is the size that a config asks for; "" where it names none, since its
// engine finds out by itself.
func wanted(engineConf json.RawMessage) string {
	var conf struct {
		PreserveN json.RawMessage `json:"preserve_n"`
	}
	if json.Unmarshal(engineConf, &conf) != nil {
		return ""
	}
	return plain(conf.PreserveN)
}

// counts is how many instances are in which state, in the order of the states.
func counts(byState map[events.InstanceState]int) string {
	total := 0
	var parts []string
	for _, state := range events.InstanceStates {
		if n := byState[state]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if total == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}

func (a *app) paintState(s events.InstanceState) string {
	switch {
	case s == events.Running:
		return a.paint(green, string(s))
	case s == events.RunningFailed || s >= events.Failed:
		return a.paint(red, string(s))
	case s < events.Running:
		return a.paint(yellow, string(s))
	}
	return string(s)
}

func (a *app) paintHealth(h events.Health) string {
	switch h {
	case events.HealthOK:
		return a.paint(green, string(h))
	case events.HealthUnknown:
		return string(h)
	case events.HealthOutOfContact:
		return a.paint(yellow, string(h))
	case events.HealthMonitorError, events.HealthProcessError, events.HealthMissing, events.HealthZombie:
	}
	return a.paint(red, string(h))
}

// trouble says in one line why an instance is not well; "" where it is.
func trouble(state events.InstanceState, health events.Health, errs []json.RawMessage, field func(string) json.RawMessage) string {
	const longest = 120 // characters
	well := health == events.HealthOK || health == events.HealthUnknown
	if well && state < events.RunningFailed {
		return ""
	}
	var parts []string
	add := func(label, text string) {
		if text = oneLine(text); text != "" {
			parts = append(parts, strings.TrimSpace(label+" "+text))
		}
	}
	if state > events.Terminating || state == events.RunningFailed {
		if plain(field("error")) != "" { // a sentence that has the rest in it
			add("", plain(field("error")))
		} else {
			add("exit code", plain(field("exit_code")))
			add("killed by", plain(field("exit_signal")))
		}
		if state >= events.Failed || state == events.RunningFailed {
			var stderr string
			if json.Unmarshal(field("stderr_tail"), &stderr) == nil {
				lines := strings.Split(strings.TrimSpace(stderr), "\n")
				add("stderr:", lines[len(lines)-1])
			}
		}
	}
	if len(errs) > 0 {
		add("", plain(errs[len(errs)-1]))
	}
	return short(strings.Join(parts, "; "), longest)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
