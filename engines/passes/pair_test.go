package passes

import (
	"strings"
	"testing"
)

// TestPair_Sites: what is ill at one site waits for the launch there, and not for one
// that another site lacks.
func TestPair_Sites(t *testing.T) {
	s := newStage(t)
	out := s.play(`config {"general":{"engine_class":"phantom_multi"},"engine_conf":{"clouds":[{"site_name":"a","size":2},{"site_name":"b","size":2}],"dtname":"w","iaas_allocation":"small"},"health":{"monitor_health":true,"missing_timeout":36000}}
		valid RUNNING
		valid OK
		i1 FAILED
		i5 FAILED
		i2 PROCESS_ERROR
		i3 FAILED`)
	if strings.Contains(out, "terminate i2") {
		t.Errorf("the last one at site a goes for a launch at site b:\n%s", out)
	}
	out = s.play("at 2s")
	if !strings.Contains(out, "at a, attempt 1, replaces i2") || !strings.Contains(out, "terminate i2") {
		t.Errorf("it is not replaced once its site's back-off is over:\n%s", out)
	}
}
