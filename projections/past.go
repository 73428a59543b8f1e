package projections

import (
	"context"
	"encoding/json"

	"github.com/seed-524e47bf/epum/events"
)

// past tells what documents were at sequences up to one that the replica has
// folded. It asks the replica, and reads the log only where that has moved on.
type past struct {
	replica  *Replica
	history  History
	upTo     uint64
	versions map[events.Key][]version // of keys that were read, oldest first
}

// version is a document from a sequence on; nil: there is none.
type version struct {
	seq      uint64
	document events.Document
}

// domain gives a domain as it was at a sequence; nil: there was none.
func (p *past) domain(ctx context.Context, id events.DomainID, seq uint64) (*events.Domain, error) {
	var domain *events.Domain
	p.replica.View(func(s *events.State) { domain = s.Domain(id) })
	// Nothing has happened to the domain between its document's event and now.
	if domain != nil && domain.Seq <= seq {
		return domain, nil
	}
	document, err := p.at(ctx, id.Key(), seq)
	domain, _ = document.(*events.Domain)
	return domain, err
}

// publicIP gives an instance's public_ip as of an event of it; nil: not known.
func (p *past) publicIP(ctx context.Context, env events.Envelope) (json.RawMessage, error) {
	var document events.Document
	p.replica.View(func(s *events.State) { document = s.Document(env.Key) })
	if instance, ok := document.(*events.Instance); ok {
		// A field may change but never goes: there was none if there is none.
		ip := instance.Fields.Get(events.FieldPublicIP)
		if ip == nil || instance.Seq == env.Seq {
			return ip, nil
		}
	}
	document, err := p.at(ctx, env.Key, env.Seq)
	if instance, ok := document.(*events.Instance); ok {
		return instance.Fields.Get(events.FieldPublicIP), err
	}
	return nil, err
}

// at folds the history of one key.
func (p *past) at(ctx context.Context, key events.Key, seq uint64) (events.Document, error) {
	versions, read := p.versions[key]
	if !read {
		var err error
		if versions, err = p.read(ctx, key); err != nil {
			return nil, err
		}
		p.versions[key] = versions
	}
	var document events.Document
	for _, v := range versions {
		if v.seq > seq {
			break
		}
		document = v.document
	}
	return document, nil
}

// read folds the history of one key from the log's origin on.
func (p *past) read(ctx context.Context, key events.Key) (versions []version, err error) {
	r := p.replica
	r.mu.RLock()
	created := r.created
	r.mu.RUnlock()
	err = r.origin.Hold(ctx, created, func(point PurgePoint) error {
		state, err := r.origin.Documents(ctx, point, key)
		if err != nil {
			return err
		}
		versions = []version{{point.Seq, state.Document(key)}}
		if p.upTo <= point.Seq {
			return nil
		}
		q := Query{Keys: []events.Key{key}, From: Point{Seq: point.Seq + 1}, To: Point{Seq: p.upTo}}
		return p.history.History(ctx, q, func(rec *events.Recorded) error {
			events.Apply(state, rec.Envelope, rec.Event)
			versions = append(versions, version{rec.Seq, state.Document(key)})
			return nil
		})
	})
	return versions, err
}
