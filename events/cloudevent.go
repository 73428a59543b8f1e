package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// TypeForeign is the CloudEvents type of a message in the log that is no event.
const TypeForeign = "epum.foreign"

// cloudEvent is a message of the log in the JSON form of CloudEvents 1.0. The names of
// its extension attributes are of lower-case letters and digits, as they must be.
type cloudEvent struct {
	SpecVersion      string          `json:"specversion"`
	ID               string          `json:"id"`
	Source           string          `json:"source"`
	Type             string          `json:"type"`
	Time             string          `json:"time,omitempty"` // the writer's clock
	Subject          string          `json:"subject"`
	ContentType      string          `json:"datacontenttype,omitempty"`
	Sequence         string          `json:"sequence"`
	StreamTime       time.Time       `json:"streamtime"`
	Actor            string          `json:"actor,omitempty"`
	CausationID      string          `json:"causationid,omitempty"`
	Epoch            string          `json:"epoch,omitempty"`
	ExpectedSequence string          `json:"expectedsequence,omitempty"` // the guard
	ExpectedSubject  string          `json:"expectedsubject,omitempty"`
	BatchID          string          `json:"batchid,omitempty"`
	BatchSequence    string          `json:"batchsequence,omitempty"`
	BatchCommit      string          `json:"batchcommit,omitempty"`
	Seal             string          `json:"seal,omitempty"`
	Headers          []byte          `json:"headers,omitempty"` // all others, a line each
	Data             json.RawMessage `json:"data,omitempty"`
	DataBase64       []byte          `json:"data_base64,omitempty"`
}

// attributes are the fields that are headers of the message.
func (c *cloudEvent) attributes() map[string]*string {
	return map[string]*string{
		HeaderSpecVersion: &c.SpecVersion, HeaderID: &c.ID, HeaderSource: &c.Source, HeaderType: &c.Type, HeaderCETime: &c.Time,
		HeaderActor: &c.Actor, HeaderCausation: &c.CausationID, HeaderCEEpoch: &c.Epoch, HeaderSeal: &c.Seal,
		HeaderGuard: &c.ExpectedSequence, HeaderGuardSubject: &c.ExpectedSubject,
		HeaderBatchID: &c.BatchID, HeaderBatchSeq: &c.BatchSequence, HeaderBatchCommit: &c.BatchCommit,
	}
}

// AppendCloudEvent appends the message in the JSON form of CloudEvents 1.0, on one line
// without its end. Nothing is lost: ParseCloudEvent gives the same message, its body
// byte for byte. A message that is no event, or that CloudEvents cannot hold as it is,
// has the type TypeForeign and all its headers in `headers`.
func (r *Recorded) AppendCloudEvent(b []byte) []byte {
	c := cloudEvent{Subject: r.Subject, Sequence: strconv.FormatUint(r.Seq, 10), StreamTime: r.Time.UTC()}
	rest := maps.Clone(r.Header)
	attributes := c.attributes()
	if r.isCloudEvent() {
		for name, value := range attributes {
			if fits(name, rest[name]) {
				*value = rest[name][0]
				delete(rest, name)
			}
		}
	} else {
		c.SpecVersion, c.ID, c.Source, c.Type = SpecVersion, c.Sequence, "/foreign", TypeForeign
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		c.Headers = appendHeader(c.Headers, name, rest[name])
	}
	switch {
	case len(r.Body) == 0:
	case compactJSON(r.Body):
		c.ContentType, c.Data = "application/json", r.Body
	default:
		c.DataBase64 = r.Body
	}
	return appendJSON(b, c)
}

// isCloudEvent reports whether the message has all that CloudEvents requires.
func (r *Recorded) isCloudEvent() bool {
	if isForeign(r.Event) || r.Type == TypeForeign || Header(r.Header, HeaderSpecVersion) != SpecVersion {
		return false
	}
	for _, name := range []string{HeaderSpecVersion, HeaderID, HeaderSource, HeaderType} {
		if !fits(name, r.Header[name]) {
			return false
		}
	}
	return true
}

// fits reports whether a header can be an attribute of CloudEvents and be had back.
func fits(name string, values []string) bool {
	if len(values) != 1 || values[0] == "" || !utf8.ValidString(values[0]) || strings.ContainsFunc(values[0], unicode.IsControl) {
		return false
	}
	if name == HeaderCETime {
		_, err := time.Parse(time.RFC3339Nano, values[0])
		return err == nil
	}
	return true
}

// compactJSON reports whether a body is JSON as it would be written here: text, with no
// space between its tokens.
func compactJSON(body []byte) bool {
	var b bytes.Buffer
	b.Grow(len(body))
	return utf8.Valid(body) && json.Compact(&b, body) == nil && bytes.Equal(b.Bytes(), body)
}

// ParseCloudEvent reads what AppendCloudEvent has written. The error says what is wrong
// with the line; an event of a type that this program does not know is none.
func (p Prefix) ParseCloudEvent(line []byte) (Recorded, error) {
	var c cloudEvent
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Recorded{}, fmt.Errorf("events: read a CloudEvent: %w", err)
	}
	if dec.More() {
		return Recorded{}, errors.New("events: read a CloudEvent: something follows it")
	}
	seq, err := strconv.ParseUint(c.Sequence, 10, 64)
	switch {
	case err != nil || seq == 0:
		return Recorded{}, fmt.Errorf("events: read a CloudEvent: sequence %q is no number above zero", c.Sequence)
	case c.SpecVersion != SpecVersion:
		return Recorded{}, fmt.Errorf("events: read CloudEvent %d: specversion is %q, not %q", seq, c.SpecVersion, SpecVersion)
	case c.Subject == "" || c.StreamTime.IsZero():
		return Recorded{}, fmt.Errorf("events: read CloudEvent %d: no subject or no streamtime", seq)
	}
	headers, err := parseHeaders(c.Headers)
	if err != nil {
		return Recorded{}, fmt.Errorf("events: read CloudEvent %d: %w", seq, err)
	}
	if c.Type != TypeForeign {
		for name, value := range c.attributes() {
			if *value != "" {
				headers[name] = []string{*value}
			}
		}
	}
	body := []byte(c.Data)
	if len(c.DataBase64) > 0 {
		body = c.DataBase64
	}
	return p.Record(c.Subject, seq, c.StreamTime.UTC(), headers, body), nil
}

func parseHeaders(lines []byte) (map[string][]string, error) {
	headers := map[string][]string{}
	for line := range strings.Lines(string(lines)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if !ok {
			return nil, errors.New("headers has a line without a colon")
		}
		headers[name] = append(headers[name], value)
	}
	return headers, nil
}
