package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// MaxBytes is the most that a request's body and a merged config may have
// (design §3, 256 KiB).
const MaxBytes = 256 << 10

// Form is the body of a request, read strictly: its methods take the fields
// out of it, and Done refuses what is left. The first fault is kept and stops
// the rest, so that only Done needs to be asked. It belongs to one goroutine.
type Form struct {
	fields []formField // in the order of the body
	err    error
}

type formField struct {
	name  string
	value json.RawMessage
	taken bool
}

// decoders holds *jsontext.Decoder: a new one for each request costs more than
// the reading.
var decoders sync.Pool

// ReadForm reads a body: one JSON object in valid UTF-8, no name twice at any
// depth, no value nested more than events.MaxDepth levels, nothing behind it. An
// empty body is {}. It fails with an ErrBadRequest.
func ReadForm(body []byte) (*Form, error) {
	if len(body) == 0 {
		return &Form{}, nil
	}
	f := &Form{fields: make([]formField, 0, 8)}
	dec, ok := decoders.Get().(*jsontext.Decoder)
	if !ok {
		dec = new(jsontext.Decoder)
	}
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(body))
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return nil, notJSON(err)
		}
		return nil, ErrBadRequest.With("the request must be a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON(err)
		}
		field := formField{name: name.String()}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, notJSON(err)
		}
		if events.TooDeep(value) {
			return nil, badField(field.name, "is nested more than %d levels deep", events.MaxDepth)
		}
		end := dec.InputOffset()
		field.value = json.RawMessage(body[end-int64(len(value)) : end : end])
		f.fields = append(f.fields, field)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, ErrBadRequest.With("the request must be one JSON object with nothing behind it")
	}
	return f, nil
}

// notJSON refuses a body that cannot be read, and says where.
func notJSON(err error) error {
	bad, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return ErrBadRequest.With("the request is not one JSON object: it ends too early")
	}
	field := dotted(bad.JSONPointer)
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return badField(field, "is given twice; give it once")
	case field != "":
		return badField(field, "is not valid JSON in UTF-8")
	}
	return ErrBadRequest.With("the request is not valid JSON in UTF-8")
}

func dotted(p jsontext.Pointer) string { return strings.Join(slices.Collect(p.Tokens()), ".") }

// take gives a field's value; nil where there is none, or a fault before.
func (f *Form) take(field string) json.RawMessage {
	if f.err != nil {
		return nil
	}
	for n := range f.fields {
		if f.fields[n].name == field {
			f.fields[n].taken = true
			return f.fields[n].value
		}
	}
	return nil
}

func (f *Form) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// text takes a string.
func (f *Form) text(field string) (s string, given bool) {
	value := f.take(field)
	if value == nil {
		return "", false
	}
	if jsontext.Value(value).Kind() != '"' {
		f.fail(badField(field, "must be a string"))
		return "", false
	}
	plain, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		f.fail(badField(field, "is not valid JSON in UTF-8"))
	}
	return string(plain), true
}

// Name takes a name that has to be there.
func (f *Form) Name(field string) string {
	name, given := f.text(field)
	if !given {
		f.fail(badField(field, "is missing; give a name"))
		return ""
	}
	f.fail(checkName(field, name))
	return name
}

// OptionalName takes a name; "" where it is not given.
func (f *Form) OptionalName(field string) string {
	name, given := f.text(field)
	if given {
		f.fail(checkName(field, name))
	}
	return name
}

// Limit takes the most that an answer may list: 1 to most, where absent def.
func (f *Form) Limit(field string, def, most int) int {
	value := f.take(field)
	if value == nil {
		return def
	}
	n, err := strconv.Atoi(string(value))
	if err != nil || n < 1 || n > most {
		f.fail(badField(field, "must be an integer from 1 to %d", most))
		return def
	}
	return n
}

// Sequence takes a sequence of the log; 0 where it is not given.
func (f *Form) Sequence(field string) uint64 {
	value := f.take(field)
	if value == nil {
		return 0
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || n == 0 {
		f.fail(badField(field, "must be a sequence of the log, an integer of at least 1"))
	}
	return n
}

// Point takes a point of the log: a sequence as a number, or an RFC 3339 time as a
// string; the zero Point where it is not given.
func (f *Form) Point(field string) (p projections.Point) {
	const wanted = "must be a sequence of the log, a number of at least 1, or an RFC 3339 time, a string such as \"2026-03-01T12:00:00Z\""
	value := f.take(field)
	if value == nil {
		return p
	}
	var err error
	if jsontext.Value(value).Kind() == '"' {
		var text string
		if err = json.Unmarshal(value, &text); err == nil {
			p.Time, err = time.Parse(time.RFC3339Nano, text)
		}
	} else {
		p.Seq, err = strconv.ParseUint(string(value), 10, 64)
	}
	if p.Time = p.Time.UTC(); err != nil || p.Seq == 0 && p.Time.IsZero() {
		f.fail(badField(field, wanted))
	}
	return p
}

// Choices takes a list of strings, each one of the options; nil where it is not given.
func (f *Form) Choices(field string, options ...string) (chosen []string) {
	value := f.take(field)
	if value == nil {
		return nil
	}
	if jsontext.Value(value).Kind() != '[' || json.Unmarshal(value, &chosen) != nil || len(chosen) == 0 {
		f.fail(badField(field, "must be a list of strings with at least one; leave it out for all"))
		return nil
	}
	for n, s := range chosen {
		if !slices.Contains(options, s) {
			f.fail(badField(fmt.Sprintf("%s.%d", field, n), "must be one of: %s", strings.Join(options, ", ")))
		}
	}
	return chosen
}

// Refuse refuses a field for what its caller knows of it.
func (f *Form) Refuse(field, format string, args ...any) { f.fail(badField(field, format, args...)) }

// Choice takes a string that has to be there and to be one of the options.
func (f *Form) Choice(field string, options ...string) string {
	s, given := f.text(field)
	if !given || !slices.Contains(options, s) {
		f.fail(badField(field, "must be one of: %s", strings.Join(options, ", ")))
	}
	return s
}

// Config takes a config that has to be there: up to three sections, each a
// JSON object.
func (f *Form) Config(field string) events.Config {
	var c events.Config
	value := f.take(field)
	if value == nil {
		f.fail(badField(field, "is missing; give an object, {} where it says nothing"))
		return c
	}
	if jsontext.Value(value).Kind() != '{' {
		f.fail(badField(field, "must be a JSON object"))
		return c
	}
	sections, err := ReadForm(value)
	if err != nil {
		f.fail(err)
		return c
	}
	c.General = sections.take(engines.SectionGeneral)
	c.EngineConf = sections.take(engines.SectionEngineConf)
	c.Health = sections.take(engines.SectionHealth)
	for _, s := range sections.fields {
		switch {
		case !s.taken:
			f.fail(badField(field+"."+s.name, "is not known; a config has the sections general, engine_conf and health"))
		case jsontext.Value(s.value).Kind() != '{':
			f.fail(badField(field+"."+s.name, "must be a JSON object"))
		}
	}
	return c
}

// Caller takes the caller, which every request may carry.
func (f *Form) Caller() (caller string, given bool) { return f.text("caller") }

// Done gives the form's first fault: an ErrBadRequest; nil where every field
// was well formed and taken. Caller counts as taken.
func (f *Form) Done() error {
	f.Caller()
	for _, field := range f.fields {
		if !field.taken {
			f.fail(badField(field.name, "is not known; leave it out"))
		}
	}
	return f.err
}

// checkName refuses what is no name by design §3. It returns nil, not a nil
// *Error, for a good one.
func checkName(field, name string) error {
	if err := events.CheckName(name); err != nil {
		_, what, _ := strings.Cut(err.Error(), "bad name: ")
		return badField(field, "is no name: %s", what)
	}
	return nil
}
