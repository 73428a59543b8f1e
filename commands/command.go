package commands

import (
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

// The operations that are commands (design §3), as in Prefix.Command.
const (
	OpAddDomain         = "add_domain"
	OpRemoveDomain      = "remove_domain"
	OpReconfigureDomain = "reconfigure_domain"
	OpSubscribeDomain   = "subscribe_domain"
	OpUnsubscribeDomain = "unsubscribe_domain"
	OpAddDefinition     = "add_domain_definition"
	OpUpdateDefinition  = "update_domain_definition"
	OpRemoveDefinition  = "remove_domain_definition"
)

// Ops are all operations that are commands.
var Ops = []string{
	OpAddDomain, OpRemoveDomain, OpReconfigureDomain, OpSubscribeDomain, OpUnsubscribeDomain,
	OpAddDefinition, OpUpdateDefinition, OpRemoveDefinition,
}

// Command is one request to change something: AddDomain, RemoveDomain,
// ReconfigureDomain, SubscribeDomain, UnsubscribeDomain, AddDefinition,
// UpdateDefinition or RemoveDefinition. Each comes to exactly one event. Its
// JSON is the request's body.
type Command interface {
	// Op is the command's operation, one of Ops.
	Op() string
	// Check refuses with an ErrBadRequest what is wrong whatever the state:
	// names, sections, the engine, the part of its config that can be judged
	// alone.
	Check(known *engines.Registry) error
	// Key is the aggregate that the command of a caller changes.
	Key(caller string) events.Key
	// Look takes out of the state what Decide needs. It is quick and keeps only
	// documents.
	Look(s *events.State, caller string) View
	// Decide is pure: what the command comes to with such a view. It fails with
	// an *Error.
	Decide(v View, known *engines.Registry) (Outcome, error)
}

// View is what a command decides on.
type View struct {
	Domain     *events.Domain     // of the domain commands; nil: none
	Definition *events.Definition // of the definition commands, and add_domain's template; nil: none
	Seq        uint64             // of the aggregate's document; 0: there is none
	Unknown    string             // type of an event there that this program does not know; "": none
}

// Outcome is what a command comes to.
type Outcome struct {
	Event events.Event
	// Changes is false where the document would be equal: then the event is
	// appended only to remember a command id.
	Changes bool
}

// Decode reads the body of a command's request strictly. It fails with an
// ErrBadRequest that names the field.
func Decode(op string, body []byte) (Command, error) {
	form, err := ReadForm(body)
	if err != nil {
		return nil, err
	}
	return DecodeForm(op, form)
}

// DecodeForm is Decode for a body that was read before.
func DecodeForm(op string, f *Form) (Command, error) {
	var c Command
	switch op {
	case OpAddDomain:
		c = AddDomain{
			DomainID: f.Name("domain_id"), DefinitionID: f.Name("definition_id"), Config: f.Config("config"),
			SubscriberName: f.OptionalName("subscriber_name"), SubscriberOp: f.OptionalName("subscriber_op"),
		}
	case OpRemoveDomain:
		c = RemoveDomain{DomainID: f.Name("domain_id")}
	case OpReconfigureDomain:
		c = ReconfigureDomain{DomainID: f.Name("domain_id"), Config: f.Config("config")}
	case OpSubscribeDomain:
		c = SubscribeDomain{DomainID: f.Name("domain_id"), SubscriberName: f.Name("subscriber_name"), SubscriberOp: f.Name("subscriber_op")}
	case OpUnsubscribeDomain:
		c = UnsubscribeDomain{DomainID: f.Name("domain_id"), SubscriberName: f.Name("subscriber_name")}
	case OpAddDefinition:
		c = AddDefinition{DefinitionID: f.Name("definition_id"), Definition: f.Config("definition")}
	case OpUpdateDefinition:
		c = UpdateDefinition{DefinitionID: f.Name("definition_id"), Definition: f.Config("definition")}
	case OpRemoveDefinition:
		c = RemoveDefinition{DefinitionID: f.Name("definition_id")}
	default:
		return nil, ErrBadRequest.With("there is no operation %q", op)
	}
	if err := f.Done(); err != nil {
		return nil, err
	}
	return c, nil
}

// checkNames checks pairs of a field and its name.
func checkNames(pairs ...string) error {
	for n := 0; n < len(pairs); n += 2 {
		if err := checkName(pairs[n], pairs[n+1]); err != nil {
			return err
		}
	}
	return nil
}
