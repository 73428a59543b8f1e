package passes

import (
	"context"
	"unicode/utf8"

	"github.com/seed-524e47bf/epum/engines"
)

// version tells one state of a domain's documents from any other.
type version struct {
	domain, decision, instances uint64 // the last sequences
	count                       int
}

func versionOf(l *look) version {
	v := version{domain: l.domain.Seq, decision: l.decisionSeq, count: len(l.instances)}
	for _, i := range l.instances {
		v.instances = max(v.instances, i.Seq)
	}
	return v
}

// answer gives what was answered about just what a look shows, once. Where nothing
// was, the question is put, unless one is under way: the domain is decided on again
// when its answer comes. So an answer is never used on anything but what it was
// given for, and never twice.
func (in *inputs) answer(l *look, q engines.Question) (*engines.Answer, error) {
	id, now := l.domain.ID, versionOf(l)
	in.mu.Lock()
	defer in.mu.Unlock()
	d := in.domains[id]
	if d == nil {
		return nil, nil //nolint:nilnil // gone meanwhile
	}
	if answer := d.answer; answer != nil {
		d.answer = nil
		if d.answered == now {
			return answer, nil
		}
	}
	if d.asking {
		return nil, nil //nolint:nilnil // the answer is on its way
	}
	body, err := engines.EncodeView(&l.view, q.Settings)
	if err != nil {
		return nil, err
	}
	d.asking = true
	in.begin()
	go in.ask(d, now, q, body)
	return nil, nil //nolint:nilnil // as above
}

// ask puts a question and keeps its answer.
func (in *inputs) ask(d *input, of version, q engines.Question, body []byte) {
	defer in.end()
	answer := &engines.Answer{Err: "this process cannot ask"}
	free, err := in.slot(q.Subject)
	if err != nil {
		return // the term is over
	}
	if in.term.Asker != nil {
		ctx, cancel := context.WithTimeout(in.ctx, q.Timeout)
		told, err := in.term.Asker.Ask(ctx, q.Subject, body)
		cancel()
		if answer = (&engines.Answer{Body: told}); err != nil {
			answer = &engines.Answer{Err: err.Error()}
		} else if !utf8.Valid(told) { // which goes on record
			answer = &engines.Answer{Err: "the answer is no UTF-8"}
		}
	}
	free()
	in.mu.Lock()
	defer in.mu.Unlock()
	d.asking, d.answer, d.answered = false, answer, of
	in.fresh[d.id] = true
	in.wake()
}
