package projections

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// mostBytes is how large a domain document's instances may be: what is above
	// goes on the next page.
	mostBytes = 600 << 10
	// mostDocument is how large it may be with all else, so that the answer fits a
	// message of 1 MiB.
	mostDocument = 1<<20 - 16<<10
)

// AsOf says which state of the log a document shows.
type AsOf struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // of the event at Seq, UTC
}

// domainView is what a domain document is made of.
type domainView struct {
	domain    *events.Domain
	decision  *events.Decision // nil: none
	instances []*events.Instance
	asOf      AsOf
	samples   samplesDocument
}

// samplesDocument is what is shown of a domain's document in the bucket of samples.
type samplesDocument struct {
	Domain    json.RawMessage            `json:"domain"`
	Instances map[string]json.RawMessage `json:"instances"` // by id
}

// domainDocument is the document of design §5, in its order.
type domainDocument struct {
	Name           string                       `json:"name"`
	Owner          string                       `json:"owner"`
	DefinitionID   string                       `json:"definition_id"`
	Config         shownConfig                  `json:"config"`
	SensorData     json.RawMessage              `json:"sensor_data"`
	Instances      []json.RawMessage            `json:"instances"`
	Subscribers    []events.Subscriber          `json:"subscribers"`
	EngineState    events.EngineState           `json:"engine_state"`
	Removed        bool                         `json:"removed"`
	InstanceCounts map[events.InstanceState]int `json:"instance_counts"`
	Next           string                       `json:"next,omitempty"`
	Seq            uint64                       `json:"seq"`
	AsOf           AsOf                         `json:"as_of"`
}

type shownConfig struct {
	General    json.RawMessage `json:"general"`
	Health     json.RawMessage `json:"health"`
	EngineConf json.RawMessage `json:"engine_conf"`
}

// json makes the document, with at most limit instances that come after one.
func (v domainView) json(after string, limit int) []byte {
	filled := v.domain.Config.Filled()
	doc := domainDocument{
		Name: v.domain.ID.Name, Owner: v.domain.ID.Owner, DefinitionID: v.domain.DefinitionID,
		Config:         shownConfig{General: filled.General, Health: filled.Health, EngineConf: filled.EngineConf},
		SensorData:     v.samples.Domain,
		Subscribers:    append([]events.Subscriber{}, v.domain.Subscribers...),
		EngineState:    v.engineState(),
		Removed:        v.domain.Removed,
		InstanceCounts: map[events.InstanceState]int{},
		Seq:            v.domain.Seq,
		AsOf:           AsOf{Seq: v.asOf.Seq, Time: v.asOf.Time.UTC()},
	}
	if len(doc.SensorData) == 0 {
		doc.SensorData = json.RawMessage(`{}`)
	}
	for _, i := range v.instances {
		doc.InstanceCounts[i.State]++
	}
	from, found := slices.BinarySearchFunc(v.instances, after, func(i *events.Instance, id string) int {
		return strings.Compare(i.ID, id)
	})
	if found {
		from++
	}
	doc.Instances, doc.Next = v.shownInstances(v.instances[from:], limit, mostBytes)
	data := doc.encode()
	if over := len(data) - mostDocument; over > 0 { // seldom: its config or subscribers take so much
		shown := 0
		for _, i := range doc.Instances {
			shown += len(i) + len(",")
		}
		doc.Instances, doc.Next = v.shownInstances(v.instances[from:], limit, shown-over)
		data = doc.encode()
	}
	return data
}

func (doc *domainDocument) encode() []byte {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false) // which would make a config of <, > and & too large for a message
	// What it holds was decoded from JSON before, so this cannot fail.
	if err := enc.Encode(doc); err != nil {
		panic("projections: encode domain document: " + err.Error())
	}
	return bytes.TrimSuffix(data.Bytes(), []byte("\n"))
}

// shownInstances gives the first instances, at most so many and in so many bytes,
// but one at least.
func (v domainView) shownInstances(instances []*events.Instance, limit, room int) (shown []json.RawMessage, next string) {
	shown = []json.RawMessage{}
	size := 0
	for n, i := range instances {
		data := i.AppendShown(nil, v.samples.Instances[i.ID])
		if n == limit || n > 0 && size+len(data) > room {
			return shown, instances[n-1].ID
		}
		size += len(data) + len(",")
		shown = append(shown, data)
	}
	return shown, ""
}

// engineState is that of the last decision in this life of the domain.
func (v domainView) engineState() events.EngineState {
	if v.decision == nil || v.decision.DomainSeq != v.domain.AddedSeq {
		return events.EnginePending
	}
	return v.decision.EngineState
}
