package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/projections"
)

func (a *app) diffCommand() *cobra.Command {
	var from, to pointFlag
	cmd := &cobra.Command{
		Use:   "diff NAME --from POINT",
		Short: "Show what has changed in a domain between two points of the log",
		Long: `Show how a domain differs between two points of the log: its config key by key, its subscribers and engine state, and its
instances field by field. Metrics are left out, since the log does not have them, and so are the documents' sequences. Where the
domain was not there yet, or no more, everything differs.

With -o json it is {"name","owner","from","to","changes":[{"path","from","to"}]}; what there is not is null.`,
		Example:           "  epum diff shop --from 2h\n  epum diff shop --from 120 --to 180\n  epum diff shop --from 2026-03-01T12:00:00Z -o json",
		Args:              exactly(1),
		ValidArgsFunction: a.completeDomain,
	}
	cmd.RunE = a.domain(func(s *session, args []string) error {
		if from.text == "" {
			return usageError("say from where on with --from: %s", pointHelp)
		}
		stop := a.waiting("diff")
		d, err := s.diff(args[0], from.point, to.point)
		stop()
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printAs(d)
		}
		return a.printDiff(d)
	})
	cmd.Flags().Var(&from, "from", "from "+pointHelp)
	cmd.Flags().Var(&to, "to", "to "+pointHelp+" (default now)")
	for _, name := range []string{"from", "to"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

// domainDiff is how a domain differs between two points.
type domainDiff struct {
	Name    string            `json:"name"`
	Owner   string            `json:"owner"`
	From    *projections.AsOf `json:"from"` // null: it was not there
	To      *projections.AsOf `json:"to"`
	Changes []difference      `json:"changes"` // sorted by path
}

// difference is a value that differs; null: there is none.
type difference struct {
	Path string          `json:"path"`
	From json.RawMessage `json:"from"`
	To   json.RawMessage `json:"to"`
}

func (s *session) diff(name string, from, to projections.Point) (*domainDiff, error) {
	before, absent, err := s.flattened(name, from)
	if absent == nil && err != nil {
		return nil, err
	}
	after, absentToo, err := s.flattened(name, to)
	switch {
	case absentToo == nil && err != nil:
		return nil, err
	case absent != nil && absentToo != nil:
		return nil, absent
	}
	d := &domainDiff{Name: name, Owner: s.owner, From: before.asOf, To: after.asOf, Changes: []difference{}}
	paths := maps.Clone(before.values)
	maps.Copy(paths, after.values)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if !bytes.Equal(before.values[path], after.values[path]) {
			d.Changes = append(d.Changes, difference{path, before.values[path], after.values[path]})
		}
	}
	return d, nil
}

// flat is a domain document as values by their paths.
type flat struct {
	asOf   *projections.AsOf // nil: there was no domain
	values map[string]json.RawMessage
}

// flattened is a domain as of a point (zero: now). absent says so where there was none.
func (s *session) flattened(name string, p projections.Point) (doc flat, absent *fault, err error) {
	doc = flat{values: map[string]json.RawMessage{}}
	all := paging{asOf: p}
	reply, err := all.read(s, natsapi.OpDescribeDomain, name, "instances")
	if isAbsent(err) {
		return doc, explain(s.ctx, err), err
	}
	if err != nil {
		return doc, nil, err
	}
	var members map[string]json.RawMessage
	var instances []map[string]json.RawMessage
	if err := json.Unmarshal(reply, &members); err != nil {
		return doc, nil, fmt.Errorf("the reply cannot be read: %w", err)
	}
	if err := json.Unmarshal(members["instances"], &instances); err != nil {
		return doc, nil, fmt.Errorf("the reply cannot be read: %w", err)
	}
	if err := json.Unmarshal(members["as_of"], &doc.asOf); err != nil {
		return doc, nil, fmt.Errorf("the reply cannot be read: %w", err)
	}
	for _, left := range []string{"instances", "as_of", "seq", "sensor_data", "next"} {
		delete(members, left)
	}
	for member, value := range members {
		depth := 0
		if member == "config" || member == "instance_counts" {
			depth = 2
		}
		doc.put(member, value, depth)
	}
	for _, i := range instances {
		id := plain(i["instance_id"])
		for _, left := range []string{"instance_id", "seq", "sensor_data"} {
			delete(i, left)
		}
		for field, value := range i {
			doc.put("instances."+id+"."+field, value, 0)
		}
	}
	return doc, nil, nil
}

// put takes a value, or the members of an object down to a depth.
func (f *flat) put(path string, value json.RawMessage, depth int) {
	var members map[string]json.RawMessage
	if depth > 0 && json.Unmarshal(value, &members) == nil && members != nil {
		for name, member := range members {
			f.put(path+"."+name, member, depth-1)
		}
		return
	}
	if string(value) != "null" { // which is as good as nothing
		f.values[path] = value
	}
}

func (a *app) printDiff(d *domainDiff) error {
	point := func(p *projections.AsOf) string {
		if p == nil {
			return "not there"
		}
		return fmt.Sprintf("event %d (%s)", p.Seq, stamp(p.Time))
	}
	err := a.printFields("Domain", clean(d.Name), "Owner", clean(d.Owner), "From", point(d.From), "To", point(d.To), "Changes", fmt.Sprint(len(d.Changes)))
	if err != nil || len(d.Changes) == 0 {
		return err
	}
	const longest = 80 // characters of a value
	var rows [][]string
	onlyOne := map[string]bool{} // instances that there are on one side only
	for _, c := range d.Changes {
		if id, field, ok := ofInstance(c.Path); ok && field == "state" && (c.From == nil || c.To == nil) {
			onlyOne[id] = true
		}
	}
	for _, c := range d.Changes {
		if id, field, ok := ofInstance(c.Path); ok && field != "state" && onlyOne[id] {
			continue // its state says enough
		}
		rows = append(rows, []string{clean(c.Path), short(orDash(plain(c.From)), longest), short(orDash(plain(c.To)), longest)})
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	return a.printTable([]string{"WHAT", "FROM", "TO"}, rows)
}

// ofInstance takes the path of an instance's field apart. An id has no dot in it.
func ofInstance(path string) (id, field string, ok bool) {
	rest, ok := strings.CutPrefix(path, "instances.")
	id, field, found := strings.Cut(rest, ".")
	return id, field, ok && found
}
