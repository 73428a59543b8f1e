package events

import (
	"encoding/json"
	"slices"
	"time"
)

// InstanceState is the state of an instance. States are ordered by comparing
// the strings, and an instance never goes back (design §1).
type InstanceState string

// The states of an instance.
const (
	Requesting    InstanceState = "100-REQUESTING" // the leader wants it; the provisioner has not answered
	Requested     InstanceState = "200-REQUESTED"
	ErrorRetrying InstanceState = "300-ERROR_RETRYING"
	Pending       InstanceState = "400-PENDING"
	Started       InstanceState = "500-STARTED"
	Running       InstanceState = "600-RUNNING"
	RunningFailed InstanceState = "650-RUNNING_FAILED"
	Terminating   InstanceState = "700-TERMINATING"
	Terminated    InstanceState = "800-TERMINATED"
	Failed        InstanceState = "900-FAILED"
	Rejected      InstanceState = "950-REJECTED"
)

// InstanceStates are all states, in order.
var InstanceStates = []InstanceState{
	Requesting, Requested, ErrorRetrying, Pending, Started, Running,
	RunningFailed, Terminating, Terminated, Failed, Rejected,
}

// Known reports whether s is one of the states.
func (s InstanceState) Known() bool { return slices.Contains(InstanceStates, s) }

// Terminal reports whether an instance in this state is gone for good.
func (s InstanceState) Terminal() bool { return s >= Terminated }

// Health is what the doctor thinks of an instance.
type Health string

// The health values.
const (
	HealthUnknown      Health = "UNKNOWN"
	HealthOK           Health = "OK"
	HealthMonitorError Health = "MONITOR_ERROR"
	HealthProcessError Health = "PROCESS_ERROR"
	HealthOutOfContact Health = "OUT_OF_CONTACT"
	HealthMissing      Health = "MISSING"
	HealthZombie       Health = "ZOMBIE"
)

// Instance is one instance as the log has it at Seq. The fold never changes an
// Instance that it has handed out: each event makes a new one, so a pointer may
// be read without a lock.
type Instance struct {
	// First what a decision looks at: in a pass over very many instances, one
	// read of memory each.
	State          InstanceState
	Health         Health
	ID             string
	Site           string
	Attempt        int       // see LaunchRequested.Attempt
	StateTime      time.Time // of the event that set State
	RunningTime    time.Time // when it was first reported RUNNING; zero: it never ran
	HealthyTime    time.Time // when it last came to be RUNNING and OK; zero: it never was
	Unwanted       bool      // the leader asked for its termination, and not since it was RUNNING_FAILED
	Replacement    bool      // it was launched for an unhealthy instance
	Domain         DomainID
	LaunchID       string
	DeployableType string
	Allocation     string
	ExtraVars      json.RawMessage // nil: none
	Errors         []json.RawMessage
	ErrorTime      *time.Time // nil: no error yet
	Fields         Fields     // reported fields
	Seq            uint64
}

// Unhealthy reports whether the instance is to be terminated and replaced
// (design §6, Decide).
func (i *Instance) Unhealthy() bool {
	if i.State == RunningFailed {
		return true
	}
	if i.State >= Terminated {
		return false
	}
	return i.Health == HealthMonitorError || i.Health == HealthProcessError || i.Health == HealthMissing
}

// FailedToRun reports whether the instance is gone without ever having run, and
// without anybody having asked for that.
func (i *Instance) FailedToRun() bool {
	return i.State.Terminal() && i.RunningTime.IsZero() && !i.Unwanted
}

// Valid reports whether the instance counts towards its domain's size: it is
// neither terminating nor gone.
func (i *Instance) Valid() bool { return i.State < Terminating }

// ownFields are the names that a report cannot set, since the document uses
// them itself or keeps the launch's value (design §4).
var ownFields = map[string]bool{
	"instance_id": true, "node_id": true, "owner": true, "launch_id": true, "deployable_type": true,
	"site": true, "allocation": true, "extravars": true, "state": true, "state_time": true,
	"health": true, "errors": true, "error_time": true, "sensor_data": true, "seq": true, internalField: true,
}

// internalField holds, in the bucket's document only, what no reader is shown.
const internalField = "epum"

// NewFields gives those of the reported fields that a report may set and that
// differ from what the instance has; nil where there is none.
func (i *Instance) NewFields(reported Fields) Fields {
	var fresh Fields
	for n, f := range reported {
		if known := i.Fields.Get(f.Name); ownFields[f.Name] || equalJSON(known, f.Value) {
			continue
		}
		if fresh == nil {
			fresh = make(Fields, 0, len(reported)-n)
		}
		fresh = append(fresh, f)
	}
	return fresh
}
