package events

import "encoding/json"

// The messages between the leader and the provisioners and agents (design §4).
// They are requests and reports, not events; the events that they cause are.

// Operations on Prefix.Provisioner and Prefix.Node subjects.
const (
	OpProvision      = "provision"
	OpTerminateNodes = "terminate_nodes"
	OpDumpState      = "dump_state"
	OpInstanceInfo   = "instance_info"
	OpHeartbeat      = "ou_heartbeat"
)

// Headers of every request to a provisioner.
const (
	HeaderEpoch = "Epum-Epoch" // the sender's epoch, a decimal sequence
	HeaderTime  = "Epum-Time"  // timestamp of the sender's election, RFC 3339 with nanoseconds, UTC; an agent refuses an older one than it has seen
	HeaderSeq   = "Epum-Seq"   // the highest event asked for, a decimal sequence
)

// ProvisionRequest asks for the launch of one instance; it is sent again with
// the same ids until a report of the instance arrives.
type ProvisionRequest struct {
	LaunchID       string                     `json:"launch_id"`
	InstanceIDs    []string                   `json:"instance_ids"` // one element
	DeployableType string                     `json:"deployable_type"`
	Site           string                     `json:"site"`
	Allocation     string                     `json:"allocation"`
	Vars           map[string]json.RawMessage `json:"vars"`
	Caller         string                     `json:"caller"` // the owner, a plain name
}

// TerminateRequest asks for the end of instances; it is sent again until each
// is reported TERMINATED or above.
type TerminateRequest struct {
	Nodes  []string `json:"nodes"` // at most 1,000
	Caller string   `json:"caller,omitempty"`
}

// DumpStateRequest asks for an instance_info of every instance named, or of a
// failure for the ones that are not known.
type DumpStateRequest struct {
	Nodes []string `json:"nodes"` // at most 1,000
}
