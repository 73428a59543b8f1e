package verify

import "github.com/seed-524e47bf/epum/events"

// message is one of the log, with the parts that most checks need; they are zero where it
// is no event.
type message struct {
	*events.Recorded
	headers events.Headers
	domain  events.DomainID // of its key, as Key.Parts gives them
	name    string
	named   bool // its key has them
	leads   bool // only a leader appends an event of its type
}

// read takes an event apart.
func (m *message) read() {
	m.headers.Read(m.Header)
	m.domain, m.name, m.named = m.Key.Parts()
	m.leads = leadersOwn(m.Type)
}
