package events

// TypeDoc documents an event type.
type TypeDoc struct {
	Type    string     `json:"type"`    // the ce-type
	Subject string     `json:"subject"` // below <prefix>.event.
	Actor   string     `json:"actor"`   // who appends it, as the ce-actor says
	Meaning string     `json:"meaning"` // what has happened, in a sentence or two
	Fields  []FieldDoc `json:"fields"`  // of its body, in the order in which they are written; empty: the body is {}
}

// FieldDoc documents a field of an event's body.
type FieldDoc struct {
	Name    string `json:"name"`
	Meaning string `json:"meaning"` // what it is, what it is measured in, what its absence means
}

// Actors of the catalogue.
const (
	byCaller = "the caller"
	byLeader = "leader/<process>"
	byReport = "the node that the report is about"
)

const (
	onDefinition = "definition.<definition>"
	onDomain     = "domain.<owner>.<domain>"
	onInstance   = "instance.<owner>.<domain>.<instance>"
)

// Catalogue documents every event type that this version writes, those of one
// subject together. It is not to be changed.
var Catalogue = []TypeDoc{
	{
		TypeDefinitionAdded, onDefinition, byCaller, "A definition came to be.",
		[]FieldDoc{{"definition", "the config that it gives, as it was given"}},
	},
	{
		TypeDefinitionUpdated, onDefinition, byCaller, "A definition was replaced as a whole. Domains that were added before keep what they had.",
		[]FieldDoc{{"definition", "the new config"}},
	},
	{TypeDefinitionRemoved, onDefinition, byCaller, "A definition is gone. Domains keep their copy of it.", nil},
	{
		TypeDomainAdded, onDomain, byCaller, "A domain came to be, as a copy of a definition with the caller's own config laid over it.",
		[]FieldDoc{
			{"definition_id", "the definition that was copied"},
			{"definition_seq", "the sequence of the definition's event that was copied"},
			{"config", "what both gave together: the domain's config"},
			{"subscriber_name", "who is told of its instances from the start; absent: nobody"},
			{"subscriber_op", "the operation that the subscriber is sent"},
		},
	},
	{
		TypeDomainReconfigured, onDomain, byCaller, "A domain's config was changed.",
		[]FieldDoc{{"config", "what the caller gave; it is laid over the config, key by key in each section"}},
	},
	{
		TypeDomainSubscribed, onDomain, byCaller, "A subscriber is told of the domain's instances; an earlier operation of the same one is replaced.",
		[]FieldDoc{
			{"subscriber_name", "who is told"},
			{"subscriber_op", "the operation that the subscriber is sent"},
		},
	},
	{
		TypeDomainUnsubscribed, onDomain, byCaller, "A subscriber is told no more.",
		[]FieldDoc{{"subscriber_name", "who was told"}},
	},
	{TypeDomainRemovalRequested, onDomain, byCaller, "A domain is to go: the leader terminates its instances, and then it vanishes.", nil},
	{TypeDomainRemoved, onDomain, byLeader, "A domain that was to go is gone, with all of its instances.", nil},
	{
		TypeLaunchRequested, onInstance, byLeader, "The leader wants an instance. The site's provisioner is asked for it until it answers.",
		[]FieldDoc{
			{"launch_id", "names this launch to the provisioner"},
			{"deployable_type", "what is launched"},
			{"site", "whose provisioner is asked"},
			{"allocation", "the size of the instance, as the provisioner knows it"},
			{"extravars", "further variables of the launch, an object; absent: none"},
			{"attempt", "1 and the attempt of the failed launches that this one tries again; absent: it is the first"},
			{"replaces", "the unhealthy instance that this one is launched for, or the failed replacement that it tries again; absent: none"},
		},
	},
	{
		TypeStateChanged, onInstance, byReport, "A report of a provisioner or agent was accepted.",
		[]FieldDoc{
			{"state", "the instance's state, such as 600-RUNNING"},
			{"fields", "the reported fields that are new or differ, such as public_ip; absent: none"},
		},
	},
	{TypeTerminateRequested, onInstance, byLeader, "The leader wants an instance gone. Its provisioner is asked until it says that it is.", nil},
	{
		TypeHealthChanged, onInstance, byLeader, "The doctor, or a heartbeat, found that an instance's health is another.",
		[]FieldDoc{
			{"health", "the new health, such as MISSING"},
			{"errors", "what the heartbeat said is wrong, a list; absent: as before"},
			{"error_time", "when, RFC 3339; absent: as before"},
		},
	},
	{TypeReaped, onInstance, byLeader, "The record of an instance that had ended is gone.", nil},
	{
		TypeDecisionMade, "decision.<owner>.<domain>", byLeader,
		"An engine decided. It is written where the decision acts, and where its reason (figures aside), engine state or memory changes.",
		[]FieldDoc{
			{"domain_seq", "the sequence of the domain's added event: which life of the name"},
			{"config_seq", "the sequence of the event that gave the config that was decided with"},
			{"refused_seq", "the sequence of a config that the engine refused; absent: none"},
			{"input_seq", "the last sequence of the log that the engine saw"},
			{"engine", "the engine; absent: none, the domain is to go"},
			{"now", "the leader's time, RFC 3339"},
			{"seed", "what an engine draws lots with"},
			{"saw", "what was decided on, an object: counts of the instances by state, unhealthy, target, the engine's own figures, readings of metrics, and what a dry run would have done"},
			{"launches", "the ids of the instances that are launched; absent: none"},
			{"terminations", "the ids of the instances that are terminated; absent: none"},
			{"reason", "why, in one sentence"},
			{"engine_state", "the domain's engine state, such as STABLE_DE"},
			{"memory", "what the engine needs to go on after a failover, at most 16 KiB; absent: nothing"},
		},
	},
	{
		TypeLeaderElected, "leader", byLeader, "A process leads. The event's sequence is its epoch.",
		[]FieldDoc{{"process", "which process"}},
	},
	{
		TypePassCommitted, "pass", byLeader, "A leader appended the events that follow, up to 999, as one batch. This event is the first of it and holds the fence.",
		[]FieldDoc{
			{"pass", "decide, doctor or reap"},
			{"domains", "how many domains the batch is about; absent: 0"},
			{"launched", "how many instances are launched; absent: 0"},
			{"terminated", "how many instances are terminated; absent: 0"},
			{"changed", "how many decision records, changes of health and reaped records it has; absent: 0"},
		},
	},
}
