package natsapi

import (
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"
)

// opStats is what $SRV.STATS says of one operation beside what micro counts.
// micro sees only that a request was handed over; this sees its end.
type opStats struct {
	mu    sync.Mutex
	codes map[string]int // code → answers
	took  time.Duration  // in all
}

// shownStats is an endpoint's `data` in the answer to $SRV.STATS.
type shownStats struct {
	Answers       map[string]int `json:"answers"` // code, such as "200" or "404" → how many
	AverageMicros int64          `json:"average_us"`
}

func (s *opStats) add(code int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.codes == nil {
		s.codes = map[string]int{}
	}
	s.codes[strconv.Itoa(code)]++
	s.took += took
}

// shown is the micro.StatsHandler of the service.
func (a *API) shown(e *micro.Endpoint) any {
	s := a.stats[e.Name]
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answers, all := make(map[string]int, len(s.codes)), 0
	for code, n := range s.codes {
		answers[code] = n
		all += n
	}
	return shownStats{Answers: answers, AverageMicros: s.took.Microseconds() / int64(max(all, 1))}
}
