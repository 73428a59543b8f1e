package verify_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections/verify"
)

// TestRun_Sound finds nothing in a log as epum writes it.
func TestRun_Sound(t *testing.T) {
	l := life()
	l.seal()
	b := bucketOf(l)
	found, s := run(t, l, b)
	if len(found) > 0 {
		t.Errorf("found: %s", strings.Join(found, "\n"))
	}
	want := verify.Summary{Events: 27, Seq: 27, Documents: len(b) - 1, Compared: true, Checkpoint: 27}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}

// wrongLogs are logs with one thing wrong, by what it is; the seals, the places and the
// bucket are those of the wrong log, so that nothing else can find it.
var wrongLogs = map[string]struct {
	harm func(l *log)
	want string // the only finding
}{
	// What a message says of itself.
	"an altered body":      {func(l *log) { l.at(3).loose, l.at(3).body = true, `{"definition_id":"e"}` }, "seal 3 its seal is"},
	"two seals":            {func(l *log) { m := l.at(3); m.loose, m.header[events.HeaderSeal] = true, []string{"a", "b"} }, "seal 3 its seal is \"a, b\""},
	"no seal":              {func(l *log) { m := l.at(3); m.loose = true; m.drop(events.HeaderSeal) }, "seal 3 it has no seal"},
	"an id twice":          {func(l *log) { l.at(9).set(events.HeaderID, "id8") }, "doubled 9 it has the ce-id of event 8: id8"},
	"no id":                {func(l *log) { l.at(9).drop(events.HeaderID) }, "doubled 9 it has no ce-id"},
	"a body of no event":   {func(l *log) { l.at(27).body = "[]" }, "decode 27 the body of this epum.definition.updated.v1"},
	"a type of the future": {func(l *log) { l.at(27).set(events.HeaderType, "epum.definition.updated.v9") }, "decode 27 this version does not know"},
	"an event of no type":  {func(l *log) { l.at(27).drop(events.HeaderType) }, "foreign 27 it has a header ce-"},
	"half a copy":          {func(l *log) { l.at(27).set(events.HeaderStream, "s") }, "foreign 27 it says that it is a copy"},
	"another's header":     {func(l *log) { l.at(27).set("Traceparent", "x") }, "warning header 27 it has the header \"Traceparent\""},
	"an older time":        {func(l *log) { l.at(27).time = created }, "warning time 27 it was stored at"},
	// Its place.
	"no guard":                    {func(l *log) { l.at(27).drop(events.HeaderGuard) }, "guard 27 it has no guard"},
	"a guard of words":            {func(l *log) { l.at(27).set(events.HeaderGuard, "x") }, "guard 27 its guard is no number"},
	"a guard that does not hold":  {func(l *log) { l.at(27).set(events.HeaderGuard, "2") }, "guard 27 it was appended behind event 2 of definition.d, and the last one there before it is 1"},
	"a guard elsewhere":           {func(l *log) { l.at(27).set(events.HeaderGuardSubject, prefix.Event("definition.e")) }, "guard 27 its guard is on definition.e"},
	"a launch that may be again":  {func(l *log) { l.at(7).set(events.HeaderGuard, "6") }, "guard 7 its guard expects event 6"},
	"a termination with a guard":  {func(l *log) { l.at(16).set(events.HeaderGuard, "9") }, "guard 16 it has a guard"},
	"a first action without one":  {func(l *log) { l.at(26).drop(events.HeaderGuardSubject); l.at(26).set(events.HeaderGuard, "0") }, "guard 26 its guard is on instance.al.web.k"},
	"a pass behind another fence": {func(l *log) { l.at(10).set(events.HeaderGuard, "1") }, "guard 10 its fence is 1"},
	"a pass without a fence":      {func(l *log) { l.at(10).drop(events.HeaderGuard, events.HeaderGuardSubject) }, "guard 10 it has no guard"},
	// Its batch.
	"a batch with a hole":       {func(l *log) { l.at(21).set(events.HeaderBatchSeq, "4") }, "batch 21 it is message \"4\" of its batch"},
	"a batch without an id":     {func(l *log) { l.at(27).set(events.HeaderBatchSeq, "1") }, "batch 27 it has headers of a batch"},
	"a batch without an end":    {func(l *log) { l.at(11).drop(events.HeaderBatchCommit) }, "batch 12 it stands within the batch that begins at 10"},
	"an end that is none":       {func(l *log) { l.at(11).set(events.HeaderBatchCommit, "eob") }, "batch 11 it ends its batch with \"eob\""},
	"a pass that says too much": {func(l *log) { l.at(4).event(events.PassCommitted{Pass: "decide", Launched: 3, Changed: 1}) }, "batch 4 the pass says that it launched 3"},
	"a pass with other changes": {func(l *log) { l.at(19).event(events.PassCommitted{Pass: "decide", Changed: 4}) }, "batch 19 the pass says"},
	"a pass of terminations":    {func(l *log) { l.at(13).event(events.PassCommitted{Pass: "decide", Terminated: 1, Changed: 1}) }, "batch 13 the pass says"},
	// Its term, and its cause.
	"a caller with an epoch":       {func(l *log) { l.at(27).set(events.HeaderCEEpoch, "2") }, "epoch 27 no leader appends"},
	"an epoch that is no number":   {func(l *log) { l.at(27).set(events.HeaderCEEpoch, "x") }, "epoch 27 no leader appends"},
	"an event of a deposed leader": {func(l *log) { l.at(11).set(events.HeaderCEEpoch, "1") }, "epoch 11 it is of the leader that was elected at 1"},
	"a leader's without its epoch": {func(l *log) { l.at(11).drop(events.HeaderCEEpoch) }, "epoch 11 only a leader appends"},
	"an election of nobody":        {func(l *log) { l.at(2).event(events.LeaderElected{}) }, "transition 2 leader.elected.v1: it names no process"},
	// Its aggregate.
	"an event of another kind":       {func(l *log) { l.at(27).event(events.Reaped{}); l.at(27).event(events.DomainSubscribed{}) }, "transition 27 an event of a domain on the subject of a definition"},
	"a definition that exists":       {func(l *log) { l.at(27).event(events.DefinitionAdded{}) }, "transition 27 definition.added.v1: the definition exists"},
	"a state of the past":            {func(l *log) { l.at(9).event(events.StateChanged{State: events.Requesting, Fields: field}) }, ""},
	"a state that there is not":      {func(l *log) { l.at(18).event(events.StateChanged{State: "850-GONE"}) }, "transition 18 instance.state_changed.v1: there is no state 850-GONE\ntransition 21"},
	"a report that says nothing new": {func(l *log) { l.at(9).event(events.StateChanged{State: events.Requesting}) }, "transition 9 instance.state_changed.v1: it changes nothing"},
	"a health that there is not":     {func(l *log) { l.at(11).event(events.HealthChanged{Health: "FINE"}) }, "transition 11 instance.health_changed.v1: there is no health FINE"},
	"a record reaped too early":      {func(l *log) { l.at(17).event(events.StateChanged{State: events.Terminating, Fields: field}) }, "transition 20 instance.reaped.v1: the instance is 700-TERMINATING"},
	"a decision of another life":     {decide(25, func(d *events.DecisionMade) { d.DomainSeq = 3 }), "transition 25 decision.made.v1: it is of another life"},
	"a decision that knew more":      {decide(25, func(d *events.DecisionMade) { d.InputSeq = 25 }), "transition 25 decision.made.v1: it saw what came later"},
	"a config of the future":         {decide(25, func(d *events.DecisionMade) { d.ConfigSeq = 24 }), "transition 25 decision.made.v1: it has a config"},
	"an action that did not come":    {decide(25, func(d *events.DecisionMade) { d.Launches = append(d.Launches, "l") }), "decision 25 decision id25 asked for 1 actions that are not in its batch, the first on instance l"},
	"a removal of a removal":         {func(l *log) { l.at(12).event(events.DomainUnsubscribed{SubscriberName: "s"}) }, "transition 22 domain.removed.v1: there is no such domain, or nobody asked"},
}

// longerLogs are logs to which something was added or of which something is missing.
var longerLogs = map[string]struct {
	harm func(l *log)
	want string
}{
	"the first is missing":  {func(l *log) { l.messages = l.messages[1:] }, "gap 1 event 1 is missing\nguard 27\ntransition 27 definition.updated.v1: there is no such definition"},
	"some are missing":      {func(l *log) { l.add(def, events.DefinitionUpdated{}).seq = 31 }, "gap 28 events 28 to 30 are missing"},
	"a subject of nothing":  {func(l *log) { l.add("pod.x", events.DefinitionUpdated{}) }, "transition 28 its subject names no aggregate"},
	"a message of nobody":   {func(l *log) { l.put(draft{key: def, ev: events.DefinitionUpdated{}}, 0).bare() }, "warning foreign 28 a message without ce-type"},
	"one of another stream": {func(l *log) { l.add(def, events.DefinitionUpdated{}).subject = "elsewhere" }, "warning foreign 28 a message of another stream"},
	"a copy":                {func(l *log) { l.add(def, events.DefinitionUpdated{}).copied() }, "warning foreign 28 a copy of another message"},
	"a leader's event alone": {func(l *log) {
		l.put(draft{key: web.InstanceKey("k"), ev: events.HealthChanged{Health: events.HealthOK}}, 2)
	}, "batch 28 it stands alone"},
	"a batch without a pass": {func(l *log) {
		l.batch(2, draft{key: web.InstanceKey("k"), ev: events.HealthChanged{Health: events.HealthOK}})
	}, "batch 28 its batch does not begin with a pass\nguard 28 its guard is on leader"},
	"a pass in a batch": {func(l *log) {
		l.pass(draft{key: events.PassKey, ev: events.PassCommitted{Pass: "reap"}, guard: events.LeaderKey}, ill())
	}, "batch 29 a pass within a batch"},
	"a command in a batch": {func(l *log) {
		l.pass(ill(), draft{key: def, ev: events.DefinitionUpdated{}})
		l.at(30).drop(events.HeaderCEEpoch)
	}, "batch 30 epum.definition.updated.v1 in a leader's batch"},
	"a guard in a batch": {func(l *log) {
		l.batch(2, draft{key: events.PassKey, ev: events.PassCommitted{Changed: 2}}, ill(), ill())
	}, "guard 30 its guard on instance.al.web.k stands behind an event of it in its batch"},
	"a batch in a batch": {func(l *log) { l.pass(ill()); l.at(29).drop(events.HeaderBatchCommit); l.pass(ill()) }, "batch 30 it stands within the batch that begins at 28"},
	"a foreign one in it": {func(l *log) {
		l.pass(ill())
		l.at(29).drop(events.HeaderBatchCommit)
		l.add(def, events.DefinitionUpdated{}).bare()
	}, "batch 30 it stands within the batch that begins at 28\nwarning foreign 30"},
	"a batch without a rest": {func(l *log) { l.pass(ill()); l.at(29).drop(events.HeaderBatchCommit) }, "batch 28 the batch that it begins has no end"},
	"a deposed leader":       {func(l *log) { l.add(events.LeaderKey, events.LeaderElected{Process: "q"}); l.pass(ill()) }, "epoch 29 it is of the leader that was elected at 2, and the last election before it is 28\nguard 29 its fence is 28, and its leader was elected at 2\nepoch 30"},
	"an action of no decision": {func(l *log) {
		l.act(draft{key: web.InstanceKey("k"), ev: events.TerminateRequested{}, cause: "id5", guard: web.Key()})
	}, "decision 29 it is an action of the decision \"id5\", which is not in its batch"},
	"an action of another": {func(l *log) {
		l.act(decision("k"), draft{key: bob.InstanceKey("k"), ev: events.TerminateRequested{}, cause: "id29", guard: bob.Key()})
	}, "decision 30 it is an action of the decision \"id29\"\ntransition 30 instance.terminate_requested.v1: there is no such instance\ndecision 29"},
	"an action twice": {func(l *log) {
		l.act(decision("k"), end("k"), draft{key: web.InstanceKey("k"), ev: events.TerminateRequested{}, cause: "id29", guard: false})
	}, "decision 31 the decision at 29 did not ask for it, or has it already"},
	"a definition of nothing": {func(l *log) { l.add("definition.e", events.DefinitionUpdated{}) }, "transition 28 definition.updated.v1: there is no such definition"},
	"nothing removed":         {func(l *log) { l.add("definition.e", events.DefinitionRemoved{}) }, "transition 28 definition.removed.v1: there is no such definition"},
	"a domain that exists":    {func(l *log) { l.add(web.Key(), events.DomainAdded{}) }, "transition 28 domain.added.v1: the domain exists"},
	"a domain that does not":  {func(l *log) { l.add(bob.Key(), events.DomainReconfigured{}) }, "transition 28 domain.reconfigured.v1: there is no such domain"},
	"one that is not removed": {func(l *log) { l.add(bob.Key(), events.DomainRemovalRequested{}) }, "transition 28 domain.removal_requested.v1: there is no such domain"},
	"one that drains": {func(l *log) {
		l.add(web.Key(), events.DomainRemovalRequested{})
		l.add(web.Key(), events.DomainSubscribed{SubscriberName: "s"})
	}, "transition 29 domain.subscribed.v1: there is no such domain, or it is being removed"},
	"one that has instances": {func(l *log) {
		l.add(web.Key(), events.DomainRemovalRequested{})
		l.pass(draft{key: web.Key(), ev: events.DomainRemoved{}})
	}, "transition 30 domain.removed.v1: it has instances"},
	"an instance of nobody": {func(l *log) { l.add(web.InstanceKey("x"), events.StateChanged{State: events.Running}) }, "transition 28 instance.state_changed.v1: there is no such instance"},
	"one of another domain": {func(l *log) { l.add(bob.InstanceKey("k"), events.StateChanged{State: events.Running}) }, "transition 28 instance.state_changed.v1: there is no such instance"},
	"a way back": {func(l *log) {
		l.add(web.InstanceKey("k"), events.StateChanged{State: events.Running})
		l.add(web.InstanceKey("k"), events.StateChanged{State: events.Pending, Fields: field})
	}, "transition 29 instance.state_changed.v1: it goes from 600-RUNNING back to 400-PENDING"},
	"a decision of nobody":     {func(l *log) { l.pass(draft{key: bob.DecisionKey(), ev: events.DecisionMade{}}) }, "transition 29 decision.made.v1: there is no such domain"},
	"launched twice":           {func(l *log) { l.launch(web, "k") }, "transition 30 instance.launch_requested.v1: the instance exists"},
	"launched while it drains": {func(l *log) { l.add(web.Key(), events.DomainRemovalRequested{}); l.launch(web, "z") }, "transition 31 instance.launch_requested.v1: there is no such domain, or it is being removed"},
}

var bob = events.DomainID{Owner: "bob", Name: "web"}

// ill is a change of the health of k.
func ill() draft {
	return draft{key: web.InstanceKey("k"), ev: events.HealthChanged{Health: events.HealthMissing}}
}

// decision terminates some of web's instances.
func decision(ids ...string) draft {
	return draft{key: web.DecisionKey(), ev: events.DecisionMade{DomainSeq: 23, ConfigSeq: 23, Terminations: ids}}
}

// end is the first termination of decision, at 29.
func end(id string) draft {
	return draft{key: web.InstanceKey(id), ev: events.TerminateRequested{}, cause: "id29", guard: web.Key()}
}

// act puts a batch that says of itself what it has.
func (l *log) act(drafts ...draft) {
	p := events.PassCommitted{Pass: "decide"}
	for _, d := range drafts {
		switch d.ev.(type) {
		case events.DecisionMade:
			p.Changed++
		case events.LaunchRequested:
			p.Launched++
		case events.TerminateRequested:
			p.Terminated++
		default: // a pass does not count the others
		}
	}
	l.batch(2, append([]draft{{key: events.PassKey, ev: p}}, drafts...)...)
}

// launch puts a batch that launches one instance.
func (l *log) launch(id events.DomainID, instance string) {
	record := len(l.messages) + 2
	l.act(draft{key: id.DecisionKey(), ev: events.DecisionMade{DomainSeq: 23, ConfigSeq: 23, Launches: []string{instance}}},
		draft{key: id.InstanceKey(instance), ev: events.LaunchRequested{}, guard: id.Key(), cause: fmt.Sprint("id", record)})
}

// bare makes a message one of nobody.
func (m *message) bare() { m.header, m.loose = map[string][]string{}, true }

// copied makes a message what a server's copy of it is.
func (m *message) copied() {
	for _, name := range []string{events.HeaderStream, "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} {
		m.set(name, "x")
	}
}

var field = events.Fields{{Name: "f", Value: json.RawMessage("1")}}

// decide changes the decision at a sequence.
func decide(seq uint64, change func(*events.DecisionMade)) func(l *log) {
	return func(l *log) {
		m := l.at(seq)
		d := events.Decode(events.TypeDecisionMade, []byte(m.body)).(events.DecisionMade)
		change(&d)
		m.event(d)
	}
}

func TestRun_Log(t *testing.T) {
	all := maps.Clone(wrongLogs)
	maps.Copy(all, longerLogs)
	if len(all) != len(wrongLogs)+len(longerLogs) {
		t.Fatal("two have the same name")
	}
	for name, c := range all {
		l := life()
		l.seal()
		c.harm(l)
		l.seal()
		found, _ := run(t, l, bucketOf(l))
		checkFound(t, name, c.want, found)
	}
}

// checkFound compares the findings with how each must begin, a line each.
func checkFound(t *testing.T, name, want string, found []string) {
	t.Helper()
	lines := strings.Split(want, "\n")
	if want == "" {
		lines = nil
	}
	same := len(found) == len(lines)
	for n := 0; same && n < len(lines); n++ {
		same = strings.HasPrefix(found[n], lines[n])
	}
	if !same {
		t.Errorf("%s:\nfound %s\nwant  %s", name, strings.Join(found, "\n      "), want)
	}
}
