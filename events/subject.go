package events

import (
	"fmt"
	"strings"
)

// Prefix is the first token of every subject and the first word of every
// stream and bucket of one cell (design §7, `prefix`; "epum" by default).
type Prefix string

// DefaultPrefix is the prefix of a cell that names none.
const DefaultPrefix Prefix = "epum"

// MaxSubjectBytes is the longest subject that epum sends to. The server closes a
// connection for good on which a line of the protocol, of subject, reply and sizes,
// has more than 4,096 bytes; no name makes a subject as long as this.
const MaxSubjectBytes = 3 << 10

// CheckSubject refuses a subject that is too long to be sent to.
func CheckSubject(subject string) error {
	if len(subject) > MaxSubjectBytes {
		return fmt.Errorf("events: a subject of %d bytes, at most %d are allowed: %.80s…", len(subject), MaxSubjectBytes, subject)
	}
	return nil
}

// MatchSubject reports whether a subject, or a key, is one that a filter is for: "*"
// stands for any token, ">" at the end for one or more.
func MatchSubject(filter, subject string) bool {
	for {
		f, filterRest, filterMore := strings.Cut(filter, ".")
		if f == ">" && !filterMore {
			return subject != ""
		}
		s, subjectRest, subjectMore := strings.Cut(subject, ".")
		if s == "" || f != "*" && f != s || filterMore != subjectMore {
			return false
		}
		if !filterMore {
			return true
		}
		filter, subject = filterRest, subjectRest
	}
}

// Event is the subject of an aggregate's events: <prefix>.event.<key>.
func (p Prefix) Event(k Key) string { return string(p) + ".event." + string(k) }

// EventKey gives the key of an event subject; "" where subject is none.
func (p Prefix) EventKey(subject string) Key {
	rest, ok := strings.CutPrefix(subject, string(p)+".event.")
	if !ok {
		return ""
	}
	return Key(rest)
}

// AllEvents is the subject filter of the event stream.
func (p Prefix) AllEvents() string { return string(p) + ".event.>" }

// Command is the subject of one operation of one caller (a plain name, or
// "" for the default user).
func (p Prefix) Command(caller, op string) string {
	return string(p) + ".cmd." + callerToken(caller) + "." + op
}

// Inbox is the subject of a durable command: one that is carried out also if
// no process is up when it is published. caller is as in Command.
func (p Prefix) Inbox(caller, op string) string {
	return string(p) + ".inbox." + callerToken(caller) + "." + op
}

// Result is the subject of the outcome of a durable command with a command id.
// caller is as in Command.
func (p Prefix) Result(caller, commandID string) string {
	return string(p) + ".result." + callerToken(caller) + "." + Token(commandID)
}

func callerToken(caller string) string {
	if caller == "" {
		return "-"
	}
	return Token(caller)
}

// Node is the subject that reports about one instance go to: op is
// "instance_info" or "ou_heartbeat".
func (p Prefix) Node(nodeID, op string) string {
	return string(p) + ".node." + Token(nodeID) + "." + op
}

// AllHeartbeats is the subject filter of the heartbeats of all instances.
func (p Prefix) AllHeartbeats() string { return string(p) + ".node.*." + OpHeartbeat }

// HeartbeatNode gives the instance, a plain name, that a heartbeat's subject
// names; ok is false where it names none.
func (p Prefix) HeartbeatNode(subject string) (nodeID string, ok bool) {
	rest, ok := strings.CutPrefix(subject, string(p)+".node.")
	if !ok {
		return "", false
	}
	token, ok := strings.CutSuffix(rest, "."+OpHeartbeat)
	if !ok {
		return "", false
	}
	nodeID, err := ParseToken(token)
	return nodeID, err == nil
}

// Provisioner is the subject of a request to the provisioner of a site: op is
// "provision", "terminate_nodes" or "dump_state".
func (p Prefix) Provisioner(site, op string) string {
	return string(p) + ".provisioner." + Token(site) + "." + op
}

// OUAgent is the subject of a dump_state for the agent at an address: the caller
// of its last heartbeat, else the instance's id.
func (p Prefix) OUAgent(address string) string {
	return string(p) + ".ouagent." + Token(address) + "." + OpDumpState
}

// Notify is the subject of the notifications to a subscriber.
func (p Prefix) Notify(subscriberName, subscriberOp string) string {
	return string(p) + ".notify." + Token(subscriberName) + "." + Token(subscriberOp)
}

// Sensor is the subject on which samples of a metric are pushed: of one of the
// domain's instances, or with instance "" of the domain as a whole.
func (p Prefix) Sensor(domain DomainID, instance, metric string) string {
	token := "-"
	if instance != "" {
		token = Token(instance)
	}
	return string(p) + ".sensor." + domain.tokens() + "." + token + "." + Token(metric)
}

// AllSensors is the subject filter of all pushed samples.
func (p Prefix) AllSensors() string { return string(p) + ".sensor.*.*.*.*" }

// SensorOf gives whose samples a subject of Sensor is for, all plain names; ok is
// false where it is none.
func (p Prefix) SensorOf(subject string) (domain DomainID, instance, metric string, ok bool) {
	rest, _ := strings.CutPrefix(subject, string(p)+".sensor.")
	tokens := strings.Split(rest, ".")
	if rest == subject || len(tokens) != 4 {
		return DomainID{}, "", "", false
	}
	var names [4]string
	for n, token := range tokens {
		if n == 2 && token == "-" {
			continue
		}
		name, err := ParseToken(token)
		if err != nil {
			return DomainID{}, "", "", false
		}
		names[n] = name
	}
	return DomainID{Owner: names[0], Name: names[1]}, names[2], names[3], true
}

// Shadow is the subject of what second engines have decided on a domain.
func (p Prefix) Shadow(domain DomainID) string { return string(p) + ".shadow." + domain.tokens() }

// AllShadows is the subject filter of all of that.
func (p Prefix) AllShadows() string { return string(p) + ".shadow.*.*" }

// LeaderCall is the subject on which a process of the service asks the leader:
// op is "run_pass", "orphan" or "failure". It is no part of the public interface.
func (p Prefix) LeaderCall(op string) string { return string(p) + ".leader." + op }

// Dead is the subject under which a report that cannot be processed is kept.
// The rest is the original subject without its prefix.
func (p Prefix) Dead(subject string) string {
	return string(p) + ".dead." + strings.TrimPrefix(subject, string(p)+".")
}

// Stream is the name of a stream or bucket of the cell: <prefix>_<name>.
func (p Prefix) Stream(name string) string { return string(p) + "_" + name }

// The streams and buckets of a cell, as arguments of Prefix.Stream.
const (
	StreamEvents  = "events"  // the log
	StreamInbox   = "inbox"   // work queue of instance_info and of durable commands
	StreamResults = "results" // the outcomes of durable commands, for a day
	StreamNotify  = "notify"  // notifications to subscribers, for a day
	StreamDead    = "dead"    // what could not be processed
	StreamSensor  = "sensor"  // pushed samples, for a day
	StreamShadow  = "shadow"  // what second engines have decided alongside
	BucketState   = "state"   // KV: the documents
	BucketLeases  = "leases"  // KV: who leads
	BucketSamples = "samples" // KV: the last samples of each domain
	BucketPurged  = "purged"  // KV: the snapshot that stands for the events that were purged
)
