package sensors

import (
	"testing"

	"github.com/seed-524e47bf/epum/engines"
)

// fuzzAnswer are answers of a server: what is read of one has times that can be
// written, and makes a snapshot that comes back as it was.
func fuzzAnswer(t *testing.T, samples []Sample) {
	t.Helper()
	for _, s := range samples {
		if year := s.Time.Year(); year < 1970 || year > 9999 {
			t.Fatalf("the time %s", s.Time)
		}
	}
	for _, statistic := range engines.Statistics {
		s := newSnapshot(samples[0].Time)
		s.add(Query{Metric: "m", OfDomain: true, Statistic: statistic}, Series{engines.OfDomain: samples})
		data, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeSnapshot(data)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := again.Encode(); err != nil || string(second) != string(data) {
			t.Fatalf("%s came back as %s, %v", data, second, err)
		}
	}
}

func FuzzDecodeProm(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		series, _, err := decodeProm(body)
		if err != nil && len(series) > 0 {
			t.Fatal("both series and an error")
		}
		for _, s := range series {
			if len(s.samples) > 0 {
				fuzzAnswer(t, s.samples)
			}
		}
	})
}

func FuzzDecodeTSDB(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		series, err := decodeTSDB(body)
		if err != nil && len(series) > 0 {
			t.Fatal("both series and an error")
		}
		for _, s := range series {
			if len(s.samples) > 0 {
				fuzzAnswer(t, s.samples)
			}
		}
	})
}
