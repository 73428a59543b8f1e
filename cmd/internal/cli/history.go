package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/internal/archive"
	explainer "github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// historyFlags say which events are wanted.
type historyFlags struct {
	owner, domain, instance, definition string
	since, until                        pointFlag
	types                               []string
	follow, listTypes                   bool
	archive                             string // directory; "": none
}

func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show what has happened, from the log",
		Long: `Show the events of the log, one a line, the oldest first: when (by the log), its sequence, who, what it is about, what, and
why. It reads the log itself, so NATS permissions decide who may, and no service has to run; a caller who may not uses the
operation history. Without an owner, domain, instance or definition it shows all there is.

Events that 'epum archive --purge' has purged from the log are in its archive: with --archive they are read from there, and the others
from the log, each once.

With -o json each line is a CloudEvent, with the event's body as the log has it. --types explains each event type.`,
		Example: `  epum history --domain shop
  epum history --domain shop --since 2h --type decision.made
  epum history --instance 01a20569-d60e-739f-833b-5e7e952822b5
  epum history --owner alice --follow
  epum history --domain shop --archive /backup/epum
  epum history -o json | jq .type
  epum history --types`,
		Args: exactly(0),
		RunE: a.run(func(ctx context.Context, _ []string) error {
			if f.listTypes {
				return a.printTypes()
			}
			return a.history(ctx, &f)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.owner, "owner", "", "only what this owner has (default with --domain: the owner that --as says)")
	flags.StringVar(&f.domain, "domain", "", "only this domain, its decisions and its instances")
	flags.StringVar(&f.instance, "instance", "", "only this instance")
	flags.StringVar(&f.definition, "definition", "", "only this definition")
	flags.Var(&f.since, "since", "from "+pointHelp+" on")
	flags.Var(&f.until, "until", "up to "+pointHelp)
	flags.StringSliceVar(&f.types, "type", nil, "only events of these types, such as decision.made (see --types)")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with each event as it happens, until Ctrl-C")
	flags.StringVar(&f.archive, "archive", "", "read what was archived from this directory, and the rest from the log")
	must(cmd.MarkFlagDirname("archive"))
	flags.BoolVar(&f.listTypes, "types", false, "explain the event types, and end")
	cmd.MarkFlagsMutuallyExclusive("follow", "until")
	for _, other := range []string{"owner", "domain", "instance"} {
		cmd.MarkFlagsMutuallyExclusive("definition", other)
	}
	must(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(shortTypes(), cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("domain", a.completeDomain))
	must(cmd.RegisterFlagCompletionFunc("definition", a.completeDefinitions))
	for _, name := range []string{"owner", "instance", "since", "until"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

// shortType is an event type without what all have in common.
func shortType(typ string) string { return strings.TrimSuffix(strings.TrimPrefix(typ, "epum."), ".v1") }

func shortTypes() (all []string) {
	for _, doc := range events.Catalogue {
		all = append(all, shortType(doc.Type))
	}
	return all
}

// keys are the subjects of what is wanted; nil: all.
func (f *historyFlags) keys(a *app) ([]events.Key, error) {
	for _, given := range []struct{ flag, name string }{
		{"owner", f.owner}, {"domain", f.domain}, {"instance", f.instance}, {"definition", f.definition},
	} {
		if err := events.CheckName(given.name); given.name != "" && err != nil {
			return nil, usageError("--%s: %v", given.flag, err)
		}
	}
	owner := f.owner
	if owner == "" && f.domain != "" {
		var err error
		if owner, err = a.owner(); err != nil {
			return nil, err
		}
	}
	id := events.DomainID{Owner: owner, Name: f.domain}
	switch {
	case f.definition != "":
		return []events.Key{events.DefinitionKey(f.definition)}, nil
	case f.instance != "" && f.domain != "":
		return []events.Key{id.InstanceKey(f.instance)}, nil
	case f.instance != "":
		return []events.Key{events.AnyInstance(owner, f.instance)}, nil
	case f.domain != "":
		return id.Keys(), nil
	case owner != "":
		return events.OfOwner(owner), nil
	}
	return nil, nil
}

// wanted are the full names of --type; nil: all.
func (f *historyFlags) wanted() (map[string]bool, error) {
	var wanted map[string]bool
	for _, name := range f.types {
		n := slices.IndexFunc(events.Catalogue, func(doc events.TypeDoc) bool { return doc.Type == name || shortType(doc.Type) == name })
		if n < 0 {
			return nil, usageError("--type %q is none of %s", name, strings.Join(shortTypes(), ", "))
		}
		if wanted == nil {
			wanted = map[string]bool{}
		}
		wanted[events.Catalogue[n].Type] = true
	}
	return wanted, nil
}

// query is what the log is asked for, and which types count of it (nil: all).
func (f *historyFlags) query(a *app) (q projections.Query, wanted map[string]bool, err error) {
	q = projections.Query{From: f.since.point, To: f.until.point, Follow: f.follow}
	if q.Keys, err = f.keys(a); err != nil {
		return q, nil, err
	}
	if wanted, err = f.wanted(); err != nil || wanted == nil {
		return q, nil, err
	}
	if q.Keys == nil {
		q.Keys = events.Everything()
	}
	if q.Keys = events.Narrow(q.Keys, wanted); len(q.Keys) == 0 {
		return q, nil, usageError("--type names no event of what is asked for")
	}
	return q, wanted, nil
}

func (a *app) history(ctx context.Context, f *historyFlags) error {
	query, wanted, err := f.query(a)
	if err != nil {
		return err
	}
	return a.operate(ctx, func(o *operator) error {
		end, err := o.end()
		if err != nil {
			return err
		}
		p := &historyPrinter{app: a, out: bufio.NewWriterSize(a.stdout, 64<<10), wanted: wanted, follow: f.follow}
		if !f.follow && !isTerminal(a.stdout) { // on a terminal the lines show how far it is
			p.progress = a.newProgress("history", max(f.since.point.Seq, 1), end.Seq)
			defer p.progress.end()
		}
		log, fault := o.history(f.archive, query)
		if fault != nil {
			return fault
		}
		err = log.History(o.ctx, query, p.print)
		if flushErr := p.out.Flush(); flushErr != nil {
			return flushErr
		}
		switch {
		case f.follow && errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return nil
		case err != nil:
			return o.archiveFault(err)
		case p.printed == 0 && a.output == outputTable:
			fmt.Fprintln(a.stderr, "epum: no such event")
		}
		return nil
	})
}

// history is what history is read from: the log, with an archive where one is named. It
// says if the log alone has not all that is asked for.
func (o *operator) history(dir string, q projections.Query) (projections.History, error) {
	ctx, cancel := context.WithTimeout(o.ctx, o.app.timeout)
	defer cancel()
	if dir != "" {
		joined, err := archive.Join(ctx, o.cell, dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &fault{code: exitNotFound, message: fmt.Sprintf("there is no archive in %s: it has no manifest.json", dir)}
		}
		if err != nil {
			return nil, o.archiveFault(err)
		}
		return joined, nil
	}
	end, err := o.log.End(ctx)
	if err != nil {
		return nil, o.readFault("the log", err)
	}
	point, err := projections.NewOrigin(o.cell.Purged()).Point(ctx, end.Created)
	if err != nil {
		return nil, o.readFault("the purge point", err)
	}
	if q.From.Seq <= point.Seq && !q.From.Time.After(point.Time) && point.Seq > 0 {
		fmt.Fprintf(o.app.stderr, "epum: most events up to %d (%s) were purged from the log; see them with --archive DIR\n", point.Seq, stamp(point.Time))
	}
	return o.log, nil
}

// historyPrinter prints events as they come.
type historyPrinter struct {
	app      *app
	out      *bufio.Writer
	wanted   map[string]bool // nil: all
	follow   bool
	progress *progress // nil: none
	printed  int
	line     []byte
}

func (p *historyPrinter) print(r *events.Recorded) error {
	if p.progress != nil {
		p.progress.at(r.Seq)
	}
	if p.wanted != nil && !p.wanted[r.Type] {
		return nil
	}
	p.printed++
	if p.app.output == outputJSON {
		p.line = append(r.AppendCloudEvent(p.line[:0]), '\n')
	} else {
		p.line = append(p.line[:0], p.told(r)...)
	}
	if _, err := p.out.Write(p.line); err != nil {
		return err
	}
	if p.follow {
		return p.out.Flush()
	}
	return nil
}

// told is an event as a line for people.
func (p *historyPrinter) told(r *events.Recorded) string {
	_, what, why := explainer.Tell(r.Event)
	if why != "" {
		what += ": " + why
	}
	who := orDash(clean(r.Actor))
	if _, name, _ := r.Key.Parts(); r.Key.Kind() == events.KindInstance && name == r.Actor { // its agent or provisioner reports in its name
		who = "its report"
	}
	return fmt.Sprintf("%s %8d  %-24s %s  %s\n", stamp(r.Time), r.Seq, who, clean(about(r)), oneLine(what))
}

// about says what an event is about.
func about(r *events.Recorded) string {
	domain, name, ok := r.Key.Parts()
	if !ok {
		return r.Subject
	}
	what := string(r.Key.Kind())
	if domain != (events.DomainID{}) {
		what += " " + domain.Owner + "/" + domain.Name
		if name != "" {
			what += "/"
		}
	} else if name != "" {
		what += " "
	}
	return what + name
}

// printTypes explains the event types.
func (a *app) printTypes() error {
	if a.output == outputJSON {
		return a.printAs(events.Catalogue)
	}
	var b strings.Builder
	for n, doc := range events.Catalogue {
		if n > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s\n  on event.%s, by %s\n  %s\n", doc.Type, doc.Subject, doc.Actor, doc.Meaning)
		for _, field := range doc.Fields {
			fmt.Fprintf(&b, "    %-16s %s\n", field.Name, field.Meaning)
		}
	}
	return a.print(b.String())
}
