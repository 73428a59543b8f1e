package passes

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/seed-524e47bf/epum/events"
)

// untargeted is a keeper that does not say how many are wanted.
type untargeted struct{}

// Ask implements Asker.
func (untargeted) Ask(ctx context.Context, subject string, body []byte) ([]byte, error) {
	data, err := keeper{}.Ask(ctx, subject, body)
	if err != nil {
		return nil, err
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, err
	}
	delete(answer, "target")
	return json.Marshal(answer)
}

// TestGuard_External: the guard holds for an engine outside that gives no target,
// which is optional, and replaces what it is told is unhealthy.
func TestGuard_External(t *testing.T) {
	s := newStage(t)
	s.term.Asker = untargeted{}
	s.play(`config {"general":{"engine_class":"external"},"engine_conf":{"subject":"a.b","settings":{"keep":6},"iaas_site":"a","deployable_type":"w"},"health":{"monitor_health":true,"missing_timeout":36000}}
		valid RUNNING
		valid OK
		i1-i6 MONITOR_ERROR
		at 20s`)
	left := s.those(func(i *events.Instance) bool { return i.State == events.Running })
	if len(left) != 3 {
		t.Errorf("%d of 6 are left though no replacement runs, not 3:\n%s", len(left), s.out.String())
	}
}
