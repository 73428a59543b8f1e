package natsapi

import (
	"context"
	"time"

	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/projections"
)

// HistoryRequest asks for events of the caller's own domains; with no id, of all of
// them. A definition's events anybody may read; they do not tell who else has
// changed it.
type HistoryRequest struct {
	DomainID     string
	InstanceID   string
	DefinitionID string            // alone
	Types        []string          // ce-types; nil: all
	Since, Until projections.Point // zero: all there is
	After        uint64            // only what is behind this sequence
	Limit        int               // 0: 1,000
}

// History gives a page of events as CloudEvents, the oldest first, as many as fit a
// message. Where Next is above 0 there may be more: go on with it as After, also where
// the page is empty. An event that fits no message has no data, and says with the
// attribute leftout how many bytes it has.
func (c *Client) History(ctx context.Context, r HistoryRequest) (*projections.HistoryPage, error) {
	page := &projections.HistoryPage{}
	return page, c.ask(ctx, OpHistory, struct {
		DomainID     string   `json:"domain_id,omitempty"`
		InstanceID   string   `json:"instance_id,omitempty"`
		DefinitionID string   `json:"definition_id,omitempty"`
		Types        []string `json:"types,omitempty"`
		Since        any      `json:"since,omitempty"`
		Until        any      `json:"until,omitempty"`
		After        uint64   `json:"after,omitempty"`
		Limit        int      `json:"limit,omitempty"`
	}{r.DomainID, r.InstanceID, r.DefinitionID, r.Types, PointJSON(r.Since), PointJSON(r.Until), r.After, r.Limit}, page)
}

// ExplainDomain explains one of the caller's domains, as of a point of the log; the
// zero one is now.
func (c *Client) ExplainDomain(ctx context.Context, name string, p projections.Point) (*explain.Explanation, error) {
	return c.explain(ctx, explainRequest{DomainID: name, AsOf: PointJSON(p)})
}

// ExplainInstance explains one of the caller's instances, as ExplainDomain does; also
// one whose record is gone.
func (c *Client) ExplainInstance(ctx context.Context, id string, p projections.Point) (*explain.Explanation, error) {
	return c.explain(ctx, explainRequest{InstanceID: id, AsOf: PointJSON(p)})
}

type explainRequest struct {
	DomainID   string `json:"domain_id,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
	AsOf       any    `json:"as_of,omitempty"`
}

func (c *Client) explain(ctx context.Context, r explainRequest) (*explain.Explanation, error) {
	e := &explain.Explanation{}
	return e, c.ask(ctx, OpExplain, r, e)
}

// PointJSON is a point as requests give it: a sequence as a number, a time as a string;
// nil for the zero one.
func PointJSON(p projections.Point) any {
	switch {
	case !p.Time.IsZero():
		return p.Time.UTC().Format(time.RFC3339Nano)
	case p.Seq > 0:
		return p.Seq
	}
	return nil
}
