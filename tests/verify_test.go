package tests

import "testing"

// TestVerify_Sound verifies what the service itself has made.
func TestVerify_Sound(t *testing.T) {
	t.Parallel()
	e := lived(t)
	s := e.isSound()
	if n := uint64(len(e.log())); s.Events != n || s.Seq != n || s.Checkpoint != n || s.Documents != len(e.documents()) || s.Unsealed != 0 {
		t.Errorf("%+v of %d events, %d documents", s, n, len(e.documents()))
	}
}
