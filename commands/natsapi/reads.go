package natsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// Limits of what one answer lists (design §3).
const (
	defaultLimit = 1000
	mostLimit    = 10_000
)

// page takes the fields that choose a part of a list.
func page(f *commands.Form) (after string, limit int) {
	return f.OptionalName("after"), f.Limit("limit", defaultLimit, mostLimit)
}

func (a *API) listDomains(ctx context.Context, r *request) ([]byte, error) {
	after, limit := page(r.form)
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	names, next, err := a.conf.Reads.ListDomains(ctx, r.caller, after, limit)
	if err != nil {
		return nil, err
	}
	return a.list("domains", names, next)
}

func (a *API) listDefinitions(ctx context.Context, r *request) ([]byte, error) {
	after, limit := page(r.form)
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	names, next, err := a.conf.Reads.ListDefinitions(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	return a.list("definitions", names, next)
}

// list encodes names, as many as fit a message.
func (a *API) list(what string, names []string, next string) ([]byte, error) {
	room := int(a.nc.MaxPayload()) - 4<<10
	for n, name := range names {
		// Quotes, comma, and at worst two bytes for each (a quote or a backslash).
		if room -= 2*len(name) + 3; room < 0 {
			names, next = names[:n], names[n-1]
			break
		}
	}
	reply := map[string]any{what: names}
	if names == nil {
		reply[what] = []string{}
	}
	if next != "" {
		reply["next"] = next
	}
	return encode(reply)
}

func (a *API) describeDomain(ctx context.Context, r *request) ([]byte, error) {
	name := r.form.Name("domain_id")
	after, limit := page(r.form)
	point := r.form.Point("as_of")
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	id := events.DomainID{Owner: r.caller, Name: name}
	if point != (projections.Point{}) {
		return a.describePast(ctx, id, point, after, limit)
	}
	doc, err := a.conf.Reads.DescribeDomain(ctx, id, after, limit)
	if errors.Is(err, projections.ErrNotFound) {
		return nil, commands.ErrNotFound.With("you have no domain %q", name)
	}
	return doc, err
}

// DefinitionDocument is the reply of describe_domain_definition.
type DefinitionDocument struct {
	Name          string        `json:"name"`
	Definition    events.Config `json:"definition"`    // as it was given
	Documentation string        `json:"documentation"` // of its engine's config, Markdown
}

func (a *API) describeDefinition(ctx context.Context, r *request) ([]byte, error) {
	name := r.form.Name("definition_id")
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	d, err := a.conf.Reads.DescribeDefinition(ctx, name)
	if errors.Is(err, projections.ErrNotFound) {
		return nil, commands.ErrNotFound.With("there is no definition %q", name)
	}
	if err != nil {
		return nil, err
	}
	return encode(DefinitionDocument{
		Name: d.Name, Definition: d.Config, Documentation: documentation(a.conf.Engines, d.Config),
	})
}

// documentation is that of a config's engine; where this process does not know
// the engine, it says so.
func documentation(known *engines.Registry, c events.Config) string {
	kind, err := known.Kind(c)
	if err != nil {
		return fmt.Sprintf("This process does not know the engine: %v. It knows: %s.", err, strings.Join(known.Names(), ", "))
	}
	return kind.Doc
}

func (a *API) status(ctx context.Context, r *request) ([]byte, error) {
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	s, err := a.conf.Status(ctx)
	if err != nil {
		return nil, err
	}
	if s.Instances == nil {
		s.Instances = map[events.InstanceState]int{}
	}
	return encode(s)
}

// encode gives JSON in which text stands as it is.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
