package engines

import (
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// The delay before launches that failed are tried again (design §6): 1 s,
// doubling to 60 s, for each domain and site.
const (
	firstBackOff = time.Second
	MostBackOff  = time.Minute
)

// BackOff says from when on the leader lets launches at a site be tried, and the
// how manieth attempt that is; zero where nothing has failed since an instance last
// reached RUNNING there. It needs no memory of its own: the instances that failed
// hold their attempts, so the next leader comes to the same.
func BackOff(instances []*events.Instance, site string) (until time.Time, attempt int) {
	var ran, failed time.Time
	for _, i := range instances {
		if i.Site == site && i.RunningTime.After(ran) {
			ran = i.RunningTime
		}
	}
	for _, i := range instances {
		if i.Site != site || !i.FailedToRun() || !i.StateTime.After(ran) {
			continue
		}
		attempt = max(attempt, i.Attempt+1)
		if i.StateTime.After(failed) {
			failed = i.StateTime
		}
	}
	if attempt == 0 {
		return time.Time{}, 0
	}
	return failed.Add(BackOffDelay(attempt)), attempt
}

// BackOffDelay is the pause before the nth further attempt.
func BackOffDelay(n int) time.Duration {
	if n > 6 { // 2^6 s is more than a minute
		return MostBackOff
	}
	return min(firstBackOff<<(n-1), MostBackOff)
}
