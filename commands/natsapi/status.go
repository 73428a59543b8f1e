package natsapi

import "github.com/seed-524e47bf/epum/events"

// Status is the reply of the operation status.
type Status struct {
	ServiceName   string                       `json:"service_name"`
	Leader        *LeaderStatus                `json:"leader"` // nil: nobody leads
	AppliedSeq    uint64                       `json:"applied_seq"`
	CheckpointSeq uint64                       `json:"checkpoint_seq"`
	Domains       int                          `json:"domains"`
	Instances     map[events.InstanceState]int `json:"instances"`
	// LateTerminations is how many instances have been TERMINATING for longer than
	// terminate_deadline. They are asked again and again.
	LateTerminations int `json:"late_terminations"`
}

// LeaderStatus says who leads.
type LeaderStatus struct {
	Process string `json:"process"`
	Epoch   uint64 `json:"epoch"`
}

// PassResult is the reply of the operation run_pass.
type PassResult struct {
	Pass       string `json:"pass"` // decide, doctor or reap
	Domains    int    `json:"domains"`
	Launched   int    `json:"launched"`
	Terminated int    `json:"terminated"`
	Changed    int    `json:"changed"`
	Errors     int    `json:"errors"`
	Seq        uint64 `json:"seq"` // of the pass's last event, or the applied one where it wrote nothing
	DurationMS int64  `json:"duration_ms"`
}
