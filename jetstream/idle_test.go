package jetstream_test
import ("testing";"time";"github.com/seed-524e47bf/epum/jetstream")
func TestIdle(t *testing.T) {
	_, urls := startCluster(t)
	nc := connect(t, urls)
	cell := openCell(t, nc, jetstream.Config{Replicas: 3})
	mustAppend(t, cell.Log(), added(1))
	bad := 0
	var worst time.Duration
	for n := range 40 {
		time.Sleep(250*time.Millisecond)
		if _, err := cell.Log().End(t.Context()); err != nil { bad++; t.Log(n, err) }
		i, err := rawStream(t, nc, "epum_events").Info(t.Context())
		if err == nil { for _, r := range i.Cluster.Replicas { worst = max(worst, r.Active) } }
	}
	t.Log("bad", bad, "worst", worst)
}
