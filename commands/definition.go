package commands

import (
	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/events"
)

type (
	// AddDefinition makes a definition.
	AddDefinition struct {
		DefinitionID string        `json:"definition_id"`
		Definition   events.Config `json:"definition"`
	}
	// UpdateDefinition replaces a definition as a whole; domains keep their copy.
	UpdateDefinition struct {
		DefinitionID string        `json:"definition_id"`
		Definition   events.Config `json:"definition"`
	}
	// RemoveDefinition takes a definition away; domains keep their copy.
	RemoveDefinition struct {
		DefinitionID string `json:"definition_id"`
	}
)

// Op implements Command.
func (AddDefinition) Op() string { return OpAddDefinition }

// Op implements Command.
func (UpdateDefinition) Op() string { return OpUpdateDefinition }

// Op implements Command.
func (RemoveDefinition) Op() string { return OpRemoveDefinition }

// Key implements Command; definitions are shared by all callers.
func (c AddDefinition) Key(string) events.Key { return events.DefinitionKey(c.DefinitionID) }

// Key implements Command.
func (c UpdateDefinition) Key(string) events.Key { return events.DefinitionKey(c.DefinitionID) }

// Key implements Command.
func (c RemoveDefinition) Key(string) events.Key { return events.DefinitionKey(c.DefinitionID) }

// Check implements Command.
func (c AddDefinition) Check(known *engines.Registry) error {
	return checkDefinition(c.DefinitionID, c.Definition, known)
}

// Check implements Command.
func (c UpdateDefinition) Check(known *engines.Registry) error {
	return checkDefinition(c.DefinitionID, c.Definition, known)
}

// Check implements Command.
func (c RemoveDefinition) Check(*engines.Registry) error {
	return checkNames("definition_id", c.DefinitionID)
}

// Look implements Command.
func (c AddDefinition) Look(s *events.State, _ string) View { return lookDefinition(s, c.DefinitionID) }

// Look implements Command.
func (c UpdateDefinition) Look(s *events.State, _ string) View {
	return lookDefinition(s, c.DefinitionID)
}

// Look implements Command.
func (c RemoveDefinition) Look(s *events.State, _ string) View {
	return lookDefinition(s, c.DefinitionID)
}

// Decide implements Command.
func (c AddDefinition) Decide(v View, _ *engines.Registry) (Outcome, error) {
	if v.Definition != nil {
		return Outcome{}, ErrWriteConflict.With("the definition %q exists already; update it or choose another name", c.DefinitionID)
	}
	return Outcome{Event: events.DefinitionAdded{Definition: c.Definition}, Changes: true}, nil
}

// Decide implements Command.
func (c UpdateDefinition) Decide(v View, _ *engines.Registry) (Outcome, error) {
	if v.Definition == nil {
		return Outcome{}, noDefinition(c.DefinitionID)
	}
	return Outcome{
		Event:   events.DefinitionUpdated{Definition: c.Definition},
		Changes: !c.Definition.Equal(v.Definition.Config),
	}, nil
}

// Decide implements Command.
func (c RemoveDefinition) Decide(v View, _ *engines.Registry) (Outcome, error) {
	if v.Definition == nil {
		return Outcome{}, noDefinition(c.DefinitionID)
	}
	return Outcome{Event: events.DefinitionRemoved{}, Changes: true}, nil
}

func lookDefinition(s *events.State, name string) View {
	v := View{Definition: s.Definition(name)}
	if v.Definition != nil {
		v.Seq = v.Definition.Seq
	}
	if s.HasUnknown() {
		v.Unknown = s.Unknown(events.DefinitionKey(name))
	}
	return v
}

func noDefinition(name string) error {
	return ErrNotFound.With("there is no definition %q", name)
}

func checkDefinition(name string, c events.Config, known *engines.Registry) error {
	if err := checkNames("definition_id", name); err != nil {
		return err
	}
	if err := known.Validate(c, false); err != nil {
		return badConfig("definition", err)
	}
	return nil
}
