package events

import "slices"

// Headers are the headers of a message of the log, found in one pass over all of them.
// Each that epum writes has its values, nil: there is none.
type Headers struct {
	SpecVersion, ID, Source, Type, CETime, Actor, Causation, CEEpoch, Seal []string
	Guard, GuardSubject, BatchID, BatchSeq, BatchCommit                    []string

	Others []string // the names of those that no epum writes, sorted
}

// Read fills in those of a message, all of which it has. h is zero before.
func (h *Headers) Read(all map[string][]string) { //nolint:gocyclo // one case for each header
	for name, values := range all {
		switch name {
		case HeaderSpecVersion:
			h.SpecVersion = values
		case HeaderID:
			h.ID = values
		case HeaderSource:
			h.Source = values
		case HeaderType:
			h.Type = values
		case HeaderCETime:
			h.CETime = values
		case HeaderActor:
			h.Actor = values
		case HeaderCausation:
			h.Causation = values
		case HeaderCEEpoch:
			h.CEEpoch = values
		case HeaderSeal:
			h.Seal = values
		case HeaderGuard:
			h.Guard = values
		case HeaderGuardSubject:
			h.GuardSubject = values
		case HeaderBatchID:
			h.BatchID = values
		case HeaderBatchSeq:
			h.BatchSeq = values
		case HeaderBatchCommit:
			h.BatchCommit = values
		default:
			h.Others = append(h.Others, name)
		}
	}
	slices.Sort(h.Others)
}
