package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// FoldVersion names what documents hold and how Apply makes them. A bucket of
// another version is not read (design §2, 6).
const FoldVersion = 4

// Document is one aggregate's part of the state, as the state bucket keeps it:
// a *Definition, *Domain, *Instance, *Decision or Leader.
type Document interface {
	// AppendJSON appends the document's JSON to b.
	AppendJSON(b []byte) []byte
}

// Document gives the document of a key; nil where there is none. It stays as it
// is however the state moves on.
func (s *State) Document(k Key) Document {
	domain, name, ok := k.Parts()
	if !ok {
		return nil
	}
	switch k.Kind() {
	case KindDefinition:
		if d := s.definitions[name]; d != nil {
			return d
		}
	case KindDomain:
		if d := s.Domain(domain); d != nil {
			return d
		}
	case KindDecision:
		if d := s.Decision(domain); d != nil {
			return d
		}
	case KindInstance:
		if i := s.instanceOf(domain, name); i != nil {
			return i
		}
	case KindLeader:
		if s.leader.Epoch > 0 {
			return s.leader
		}
	case KindPass:
	}
	return nil
}

// Documents gives every key that has a document, in no order.
func (s *State) Documents() iter.Seq2[Key, Document] {
	return func(yield func(Key, Document) bool) {
		if s.leader.Epoch > 0 && !yield(LeaderKey, s.leader) {
			return
		}
		for name, d := range s.definitions {
			if !yield(DefinitionKey(name), d) {
				return
			}
		}
		for id, e := range s.domains {
			if e.domain != nil && !yield(id.Key(), e.domain) ||
				e.decision != nil && !yield(id.DecisionKey(), e.decision) {
				return
			}
			for _, i := range e.instances {
				if !yield(id.InstanceKey(i.ID), i) {
					return
				}
			}
		}
	}
}

// Load puts a document of the state bucket into the state, as it was written
// by AppendJSON.
func (s *State) Load(k Key, data []byte) error {
	domain, name, ok := k.Parts()
	if !ok {
		return fmt.Errorf("events: load %s: no key of a document", k)
	}
	doc, err := decodeDocument(k.Kind(), domain, name, data, s.word)
	if err != nil {
		return fmt.Errorf("events: load %s: %w", k, err)
	}
	switch doc := doc.(type) {
	case *Definition:
		s.definitions[doc.Name] = doc
	case *Domain:
		s.entry(doc.ID).domain = doc
	case *Decision:
		s.entry(doc.Domain).decision = doc
	case *Instance:
		s.putInstance(doc)
	case Leader:
		s.leader = doc
	}
	return nil
}

// DecodeDocument reads a document of the state bucket.
func DecodeDocument(k Key, data []byte) (Document, error) {
	domain, name, ok := k.Parts()
	if !ok {
		return nil, fmt.Errorf("events: decode %s: no key of a document", k)
	}
	return decodeDocument(k.Kind(), domain, name, data, func(w string) string { return w })
}

// errOthers is what has the form of a document, or of some of it, and is not the one
// of its key.
var errOthers = errors.New("it is not the document of this key")

func decodeDocument(kind Kind, domain DomainID, name string, data []byte, word func(string) string) (Document, error) {
	switch kind {
	case KindDefinition:
		var d definitionDoc
		err := unmarshalOwn(data, &d, func() bool { return d.Name == name })
		return &Definition{Name: name, Config: d.Definition, Seq: d.Seq}, err
	case KindDomain:
		var d domainDoc
		err := unmarshalOwn(data, &d, func() bool { return domain == DomainID{Owner: d.Owner, Name: d.Name} })
		return &Domain{
			ID: domain, DefinitionID: word(d.DefinitionID), Config: d.Config, Subscribers: d.Subscribers, Removed: d.Removed,
			AddedSeq: d.AddedSeq, ConfigSeq: d.ConfigSeq, Seq: d.Seq,
		}, err
	case KindDecision:
		var d decisionDoc
		err := unmarshalOwn(data, &d, func() bool { return domain == DomainID{Owner: d.Owner, Name: d.Name} })
		return &Decision{Domain: domain, ID: d.ID, Time: d.Time, decisionBody: d.decisionBody, Seq: d.Seq}, err
	case KindInstance:
		return decodeInstance(domain, name, data, word)
	case KindLeader:
		var d leaderDoc
		err := unmarshalOwn(data, &d, func() bool { return d.Epoch > 0 })
		return Leader(d), err
	case KindPass:
	}
	return nil, fmt.Errorf("%s has no document", kind)
}

// unmarshalOwn reads a document, which has to say that it is the key's own: other JSON
// would be one with nothing in it.
func unmarshalOwn(data []byte, into any, own func() bool) error {
	err := json.Unmarshal(data, into)
	if err == nil && !own() {
		err = errOthers
	}
	return err
}

type definitionDoc struct {
	Name       string `json:"name"`
	Definition Config `json:"definition"`
	Seq        uint64 `json:"seq"`
}

type domainDoc struct {
	Name         string       `json:"name"`
	Owner        string       `json:"owner"`
	DefinitionID string       `json:"definition_id"`
	Config       Config       `json:"config"`
	Subscribers  []Subscriber `json:"subscribers"`
	Removed      bool         `json:"removed"`
	AddedSeq     uint64       `json:"added_seq"`
	ConfigSeq    uint64       `json:"config_seq"`
	Seq          uint64       `json:"seq"`
}

type decisionDoc struct {
	Owner string    `json:"owner"`
	Name  string    `json:"domain"`
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	decisionBody
	Seq uint64 `json:"seq"`
}

type leaderDoc struct {
	Process string    `json:"process"`
	Epoch   uint64    `json:"epoch"`
	Time    time.Time `json:"time"`
	Seq     uint64    `json:"seq"`
}

// AppendJSON implements Document, as do the methods below.
func (d *Definition) AppendJSON(b []byte) []byte {
	return appendJSON(b, definitionDoc{Name: d.Name, Definition: d.Config, Seq: d.Seq})
}

// AppendJSON implements Document.
func (d *Domain) AppendJSON(b []byte) []byte {
	subs := d.Subscribers
	if subs == nil {
		subs = []Subscriber{}
	}
	return appendJSON(b, domainDoc{
		Name: d.ID.Name, Owner: d.ID.Owner, DefinitionID: d.DefinitionID, Config: d.Config, Subscribers: subs, Removed: d.Removed,
		AddedSeq: d.AddedSeq, ConfigSeq: d.ConfigSeq, Seq: d.Seq,
	})
}

// AppendJSON implements Document.
func (d *Decision) AppendJSON(b []byte) []byte {
	return appendJSON(b, decisionDoc{
		Owner: d.Domain.Owner, Name: d.Domain.Name, ID: d.ID, Time: d.Time, decisionBody: d.decisionBody, Seq: d.Seq,
	})
}

// AppendJSON implements Document.
func (l Leader) AppendJSON(b []byte) []byte {
	return appendJSON(b, leaderDoc(l))
}

// appendJSON cannot fail: what documents hold was decoded from JSON before.
func appendJSON(b []byte, doc any) []byte {
	data, err := marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("events: encode document: %v", err))
	}
	return append(b, data...)
}
