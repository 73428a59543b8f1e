package passes

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// A record has to fit a message: of more readings, and of a longer answer, it says
// only how much is left out.
const (
	mostReadings = 4000
	readingBytes = 100 // of one, about: readings and answer share the room
	mostAnswer   = 256 << 10
)

// Saw is what a decision record says that was decided on (DecisionMade.Saw).
type Saw struct {
	Counts     map[events.InstanceState]int `json:"counts"`
	Unhealthy  int                          `json:"unhealthy,omitempty"`
	Spared     int                          `json:"spared,omitempty"` // unhealthy ones that wait for their replacement
	Target     int                          `json:"target"`
	Engine     json.RawMessage              `json:"engine,omitempty"` // what the engine itself says; nil: nothing
	Readings   engines.Readings             `json:"readings,omitempty"`
	LeftOut    int                          `json:"readings_left_out,omitempty"`
	Answer     *Answered                    `json:"answer,omitempty"` // nil: nobody was asked, or it is left out
	LongAnswer int                          `json:"answer_left_out,omitempty"`
	DryRun     *Rehearsal                   `json:"dry_run,omitempty"`
}

// Answered is an engines.Answer on record: one of both.
type Answered struct {
	Body  *string `json:"body,omitempty"`
	Error string  `json:"error,omitempty"`
}

// Rehearsal is what a dry run would have done.
type Rehearsal struct {
	Launches     []engines.Launch `json:"launches,omitempty"`
	Terminations []string         `json:"terminations,omitempty"`
}

// DecodeSaw reads what a record says was decided on; nothing where it says nothing.
func DecodeSaw(data json.RawMessage) (s Saw, err error) {
	if len(data) == 0 {
		return s, nil
	}
	if err = json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("passes: decode what a decision saw: %w", err)
	}
	return s, nil
}

// Given is the answer as the engine was given it; nil where the record has none.
func (s *Saw) Given() *engines.Answer {
	switch {
	case s.Answer == nil:
		return nil
	case s.Answer.Body == nil:
		return &engines.Answer{Err: s.Answer.Error}
	}
	return &engines.Answer{Body: json.RawMessage(*s.Answer.Body)}
}

// saw is the record of what was decided on; so many unhealthy ones wait for their
// replacement, and that was only tried.
func saw(l *look, d engines.Decision, spared int, tried *Rehearsal) json.RawMessage {
	s := Saw{Counts: map[events.InstanceState]int{}, Spared: spared, Target: d.Target, Engine: d.Saw, Readings: l.view.Readings, DryRun: tried}
	for _, i := range l.instances {
		s.Counts[i.State]++
		if i.Unhealthy() {
			s.Unhealthy++
		}
	}
	if n := s.Readings.Len(); n > mostReadings {
		s.Readings, s.LeftOut = nil, n
	}
	s.answered(l.view.Answer)
	data, err := json.Marshal(s)
	if err != nil { // check has seen that d.Saw is JSON
		panic(errors.Join(errors.New("passes: encode what a decision saw"), err))
	}
	return data
}

// answered notes an answer; nil: nobody was asked.
func (s *Saw) answered(a *engines.Answer) {
	switch {
	case a == nil:
	case a.Err != "":
		s.Answer = &Answered{Error: a.Err}
	case quotedLen(a.Body) > min(mostAnswer, (mostReadings-s.Readings.Len())*readingBytes):
		s.LongAnswer = len(a.Body)
	default:
		body := string(a.Body)
		s.Answer = &Answered{Body: &body}
	}
}

// quotedLen is how many bytes a text has as a JSON string, up to six times its own.
func quotedLen(text []byte) int {
	quoted, err := json.Marshal(string(text))
	if err != nil { // a string always can be
		panic(err)
	}
	return len(quoted)
}
