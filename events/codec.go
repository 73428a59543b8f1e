package events

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Encode gives the JSON body of an event. Text is kept as it is (no HTML
// escapes). It fails only where a raw JSON value inside is no JSON, or nested so
// deep that Decode could not read the event back.
func Encode(ev Event) (body []byte, err error) {
	if report, ok := ev.(StateChanged); ok {
		body, err = report.encode()
	} else {
		body, err = marshal(ev)
	}
	if err == nil && deeper(body, mostDepth) {
		err = fmt.Errorf("it is nested more than %d levels deep", mostDepth)
	}
	if err != nil {
		return nil, fmt.Errorf("events: encode %s: %w", ev.Type(), err)
	}
	return body, nil
}

// Decode gives the event of a type and a body. It is total: a type that this
// program does not know, or a body that it cannot read, gives an Unknown, and no
// type at all a Foreign. Unknown fields are ignored.
func Decode(typ string, body []byte) Event { //nolint:gocyclo // one case for each event type
	switch typ {
	case "":
		return Foreign{}
	case TypeDefinitionAdded:
		return decode[DefinitionAdded](typ, body)
	case TypeDefinitionUpdated:
		return decode[DefinitionUpdated](typ, body)
	case TypeDefinitionRemoved:
		return DefinitionRemoved{}
	case TypeDomainAdded:
		return decode[DomainAdded](typ, body)
	case TypeDomainReconfigured:
		return decode[DomainReconfigured](typ, body)
	case TypeDomainSubscribed:
		return decode[DomainSubscribed](typ, body)
	case TypeDomainUnsubscribed:
		return decode[DomainUnsubscribed](typ, body)
	case TypeDomainRemovalRequested:
		return DomainRemovalRequested{}
	case TypeDomainRemoved:
		return DomainRemoved{}
	case TypeLaunchRequested:
		return read(typ, scanLaunch, body)
	case TypeStateChanged:
		return read(typ, scanState, body)
	case TypeTerminateRequested:
		return TerminateRequested{}
	case TypeHealthChanged:
		return decode[HealthChanged](typ, body)
	case TypeReaped:
		return Reaped{}
	case TypeDecisionMade:
		return decode[DecisionMade](typ, body)
	case TypeLeaderElected:
		return decode[LeaderElected](typ, body)
	case TypePassCommitted:
		return decode[PassCommitted](typ, body)
	}
	return Unknown{Name: typ}
}

func decode[E Event](typ string, body []byte) Event {
	return read(typ, func(body []byte) (ev E, err error) {
		err = json.Unmarshal(body, &ev)
		return ev, err
	}, body)
}

func read[E Event](typ string, reader func([]byte) (E, error), body []byte) Event {
	ev, err := reader(body)
	if err != nil {
		return Unknown{Name: typ, Err: err}
	}
	return ev
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
