// Package external is the engine that has somebody else decide: it puts the view
// of its domain to a subject, and does what is answered, if that is sound.
package external

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

//go:embed external.md
var doc string

const (
	defaultTimeout = 2 * time.Second
	// longestTimeout bounds how long one domain can be without a decision.
	longestTimeout = 30 * time.Second
	// longestSubject is well below what a server takes, in bytes.
	longestSubject = 1 << 10
)

// section is engine_conf as it is given; nil: absent or null.
type section struct {
	Subject  *string         `json:"subject"`
	Timeout  *float64        `json:"timeout"`
	Settings json.RawMessage `json:"settings"`
	engines.GivenLaunch
	engines.GivenSensing
}

type conf struct {
	question engines.Question
	launch   engines.Launch
	sensing  engines.Sensing
}

// Kind is the engine as a registry takes it. No domain may ask on a subject below
// the prefix, which are epum's own.
func Kind(prefix events.Prefix) engines.Kind {
	parse := func(given json.RawMessage, complete bool) (c conf, err error) {
		var s section
		if err := engines.DecodeEngineConf(given, &s); err != nil {
			return c, err
		}
		if c.question, err = s.ask(prefix, complete); err != nil {
			return c, err
		}
		if c.launch, err = s.Launch(false); err != nil {
			return c, err
		}
		c.sensing, err = s.Sensing()
		return c, err
	}
	accepted := func(given json.RawMessage) conf {
		c, _ := parse(given, false) // Validate has accepted it
		return c
	}
	return engines.Kind{
		Name: "external",
		Doc:  doc,
		New: func(given, _ json.RawMessage) (engines.Engine, error) {
			c, err := parse(given, true)
			if err != nil {
				return nil, err
			}
			return &engine{parse: parse, conf: c}, nil
		},
		Validate: func(given json.RawMessage, complete bool) error {
			_, err := parse(given, complete)
			return err
		},
		Sensing:  func(given json.RawMessage) engines.Sensing { return accepted(given).sensing },
		Question: func(given json.RawMessage) engines.Question { return accepted(given).question },
	}
}

func (s *section) ask(prefix events.Prefix, complete bool) (engines.Question, error) {
	q := engines.Question{Timeout: defaultTimeout, Settings: s.Settings}
	if s.Subject != nil {
		q.Subject = *s.Subject
		if why := badSubject(q.Subject, prefix); why != "" {
			return q, engines.RefuseEngineConf("subject", why)
		}
	} else if complete {
		return q, engines.RefuseEngineConf("subject", "is required: the subject on which somebody decides")
	}
	if t := s.Timeout; t != nil {
		if q.Timeout = engines.Seconds(*t); *t <= 0 || q.Timeout > longestTimeout {
			return q, engines.RefuseEngineConf("timeout", "must be a number of seconds above 0, at most 30")
		}
	}
	if len(s.Settings) > 0 && s.Settings[0] != '{' && string(s.Settings) != "null" {
		return q, engines.RefuseEngineConf("settings", "must be a JSON object")
	}
	return q, nil
}

// badSubject says why a subject is not one to ask on; "": it is. What the leader
// asks it asks with its own rights, so the server's and epum's own are left out.
func badSubject(subject string, prefix events.Prefix) string {
	switch {
	case subject == "" || len(subject) > longestSubject:
		return fmt.Sprintf("must have 1 to %d bytes", longestSubject)
	case strings.HasPrefix(subject, "$") || strings.HasPrefix(subject, "_"):
		return "must not begin with $ or _, which are the server's own"
	case subject == string(prefix) || strings.HasPrefix(subject, string(prefix)+"."):
		return fmt.Sprintf("must not be below %s., which is epum's own", prefix)
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7F }) {
			return "must be tokens with dots between them, without blanks and wildcards"
		}
	}
	return ""
}

// engine has its config and nothing else.
type engine struct {
	parse func(json.RawMessage, bool) (conf, error)
	conf  conf
}

// Reconfigure implements engines.Engine.
func (e *engine) Reconfigure(given json.RawMessage) error {
	c, err := e.parse(given, true)
	if err == nil {
		e.conf = c
	}
	return err
}

// Decide implements engines.Engine. Without a sound answer the domain stays as it is.
func (e *engine) Decide(v *engines.View) (engines.Decision, error) {
	why := "nobody has been asked"
	if v.Answer != nil {
		if why = v.Answer.Err; why == "" {
			d, err := engines.DecodeDecision(v, v.Answer.Body, e.conf.launch)
			if err == nil {
				return e.told(d), nil
			}
			why = "the answer is refused: " + err.Error()
		}
	}
	stay := engines.Decision{
		Target: v.Healthy(), State: events.EngineUnknown, Memory: v.Memory,
		Reason: fmt.Sprintf("the domain stays as it is: no decision from %s: %s", e.conf.question.Subject, why),
	}
	return e.told(stay), nil
}

// told adds who was asked.
func (e *engine) told(d engines.Decision) engines.Decision {
	d.Saw, _ = json.Marshal(map[string]string{"subject": e.conf.question.Subject})
	return d
}
