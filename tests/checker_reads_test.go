package tests

import (
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/events"
)

// reading is one answer of describe_domain or list_domains.
type reading struct {
	caller, domain string
	acked          uint64                  // the highest sequence acknowledged to the caller before it asked
	added          map[string]uint64       // its domains → where their adding was acknowledged, before it asked
	asOf           uint64                  // 0: the answer does not say
	doc            *natsapi.DomainDocument // of describe; nil: there is no such domain
	names          []string                // of list
}

// checkReadings compares the answers as of the state with it.
func (c *checker) checkReadings() {
	for len(c.readings) > 0 && c.readings[0].asOf <= c.state.Seq {
		r := c.readings[0]
		c.readings = c.readings[1:]
		if r.asOf == c.state.Seq {
			c.checkReading(r)
		}
	}
}

// seqs is what there is to see of a domain, as far as its age says it.
type seqs struct {
	Domain    uint64
	Removed   bool
	Instances map[string]uint64
	States    map[string]events.InstanceState
}

func (c *checker) checkReading(r reading) {
	if r.asOf < r.acked {
		c.find(findRead, "%s/%s is shown as of %d after %d was acknowledged", r.caller, r.domain, r.asOf, r.acked)
	}
	id := events.DomainID{Owner: r.caller, Name: r.domain}
	d := c.state.Domain(id)
	if d == nil {
		c.find(findRead, "%s/%s as of %d: there was none", r.caller, r.domain, r.asOf)
		return
	}
	empty := func() seqs {
		return seqs{Instances: map[string]uint64{}, States: map[string]events.InstanceState{}}
	}
	want, got := empty(), empty()
	want.Domain, want.Removed = d.Seq, d.Removed
	for _, i := range c.state.Instances(id) {
		want.Instances[i.ID], want.States[i.ID] = i.Seq, i.State
	}
	got.Domain, got.Removed = r.doc.Seq, r.doc.Removed
	for _, i := range r.doc.Instances {
		got.Instances[i.InstanceID], got.States[i.InstanceID] = i.Seq, i.State
	}
	if diff := cmp.Diff(want, got); r.doc.Next == "" && diff != "" {
		c.find(findRead, "%s/%s as of %d (-log +answer):\n%s", r.caller, r.domain, r.asOf, diff)
	}
}

// checkAbsences looks at the answers in which a domain was missing that had been
// acknowledged: the log must say that it went later.
func (c *checker) checkAbsences(log []logged) {
	if n := len(c.readings); n > 0 {
		c.find(findRead, "%d answers are as of later than the log's end, the first %+v", n, c.readings[0])
	}
	gone := map[events.DomainID]uint64{}
	for _, l := range log {
		if l.typ() == events.TypeDomainRemoved {
			domain, _, _ := l.key.Parts()
			gone[domain] = l.seq
		}
	}
	for _, r := range c.absences {
		for name, added := range r.added {
			missing := r.domain == name || r.domain == "" && !slices.Contains(r.names, name)
			if missing && gone[events.DomainID{Owner: r.caller, Name: name}] <= added {
				c.find(findRead, "%s/%s is missing, it was added at %d", r.caller, name, added)
			}
		}
	}
}
