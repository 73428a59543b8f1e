package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-524e47bf/epum/cmd/internal/agent"
	"github.com/seed-524e47bf/epum/commands"
)

// addInitial adds the definitions and domains of the configuration. One that
// exists already is a warning, as it is at every start but the first.
func (s *Service) addInitial(ctx context.Context) error {
	caller := s.cfg.DefaultUser
	if caller == "" {
		caller = s.cfg.ServiceName // definitions belong to nobody
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.InitialDefinitions)) {
		err := s.add(ctx, caller, name, commands.AddDefinition{DefinitionID: name, Definition: s.cfg.InitialDefinitions[name]})
		if err != nil {
			return fmt.Errorf("initial_definitions.%s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.InitialDomains)) {
		initial := s.cfg.InitialDomains[name]
		err := s.add(ctx, caller, name, commands.AddDomain{DomainID: name, DefinitionID: initial.Definition, Config: initial.Config})
		if err != nil {
			return fmt.Errorf("initial_domains.%s: %w", name, err)
		}
	}
	return nil
}

func (s *Service) add(ctx context.Context, caller, name string, cmd commands.Command) error {
	_, err := s.handler.Do(ctx, caller, "", cmd)
	if errors.Is(err, commands.ErrWriteConflict) {
		s.log.Warn("initial definition or domain exists already", "name", name)
		return nil
	}
	return err
}

// runProvisioner starts the provisioner that is part of this process, if any.
func (s *Service) runProvisioner() error {
	switch s.cfg.Provisioner {
	case ProvisionerMock:
		mock, err := agent.OpenMock(s.nc, agent.MockConfig{
			Prefix: s.cfg.Prefix, Delay: s.cfg.Mock.Delay, Jitter: s.cfg.Mock.Jitter,
			FailureRate: s.cfg.Mock.FailureRate, Seed: s.cfg.Mock.Seed, Logger: s.log,
			HeartbeatInterval: s.cfg.Agent.HeartbeatInterval,
		})
		if err != nil {
			return err
		}
		s.run("mock provisioner", mock.Run)
	case ProvisionerProcess:
		types := agent.DefaultTypes()
		if s.cfg.Agent.Types != "" {
			var err error
			if types, err = agent.LoadTypes(s.cfg.Agent.Types); err != nil {
				return err
			}
		}
		a, err := agent.Open(s.nc, agent.Config{
			Prefix: s.cfg.Prefix, Site: s.cfg.Agent.Site, Types: types, Dir: s.cfg.Agent.Dir, Logger: s.log,
			HeartbeatInterval: s.cfg.Agent.HeartbeatInterval,
		})
		if err != nil {
			return err
		}
		s.run("agent", a.Run)
	}
	return nil
}
