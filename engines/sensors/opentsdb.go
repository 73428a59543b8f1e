package sensors

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/seed-524e47bf/epum/engines"
)

// OpenTSDBOptions are the service's own settings of an OpenTSDB server.
type OpenTSDBOptions struct {
	URL     string        // http://host:4242, maybe with a path before /api, and with user:password@
	Timeout time.Duration // of one request; 0: DefaultTimeout
	Header  http.Header   // sent with each request, as Authorization; nil: none
	// Aggregator is what the server makes of several series of one instance, or of
	// one domain; "": avg.
	Aggregator string
	Tag        string // that says whose a series is, as host; "": instance_id
	// Field is the reported field whose value the tag has, as hostname; "": it has
	// the instance's id.
	Field string
}

// OpenTSDB is the source opentsdb: the HTTP API of an OpenTSDB server from 2.3 on.
//
// A metric is the series with its name and the tags owner, domain, and, for
// instances, instance_id; those of the domain itself have no further tag. One
// request asks for all instances. OpenTSDB allows only letters, digits and - _ . / in names:
// what has another one is refused. engine_conf.sensor_queries is not used.
type OpenTSDB struct {
	options OpenTSDBOptions
	url     string
	client  *http.Client
}

// NewOpenTSDB makes the source. The error says which option is wrong.
func NewOpenTSDB(o OpenTSDBOptions) (*OpenTSDB, error) {
	base, err := baseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("sensors: URL of OpenTSDB: %w", err)
	}
	if o.Aggregator == "" {
		o.Aggregator = "avg"
	}
	if o.Tag == "" {
		o.Tag = "instance_id"
	}
	for _, name := range []string{o.Aggregator, o.Tag} {
		if err := tsdbName(name); err != nil {
			return nil, fmt.Errorf("sensors: options of OpenTSDB: %w", err)
		}
	}
	return &OpenTSDB{options: o, url: base.JoinPath("api/query").String(), client: NewClient(o.Timeout)}, nil
}

// tsdbRequest is the body of /api/query.
type tsdbRequest struct {
	Start        int64       `json:"start"` // Unix milliseconds
	End          int64       `json:"end"`
	MsResolution bool        `json:"msResolution"`
	Queries      []tsdbQuery `json:"queries"`
}

type tsdbQuery struct {
	Metric       string       `json:"metric"`
	Aggregator   string       `json:"aggregator"`
	ExplicitTags bool         `json:"explicitTags,omitempty"` // series with further tags do not count
	Filters      []tsdbFilter `json:"filters"`
}

type tsdbFilter struct {
	Type    string `json:"type"`
	Tag     string `json:"tagk"`
	Filter  string `json:"filter"`
	GroupBy bool   `json:"groupBy"` // a series for each value; else the tag is only filtered by
}

// Fetch implements Source.
func (o *OpenTSDB) Fetch(ctx context.Context, q Query) (Series, error) {
	for _, name := range []string{q.Metric, q.Domain.Owner, q.Domain.Name} {
		if err := tsdbName(name); err != nil {
			return nil, err
		}
	}
	series := Series{}
	var errs []error
	filters := []tsdbFilter{
		{Type: "literal_or", Tag: "owner", Filter: q.Domain.Owner}, {Type: "literal_or", Tag: "domain", Filter: q.Domain.Name},
	}
	// A request each: of a name that the server has not heard of it says no more
	// than that it does not know it, whichever query has it.
	if len(q.Instances) > 0 {
		ids := byLabel(q.Instances, o.options.Field)
		found, err := o.query(ctx, q, tsdbQuery{
			Metric: q.Metric, Aggregator: o.options.Aggregator,
			Filters: append(filters[:2:2], tsdbFilter{Type: "wildcard", Tag: o.options.Tag, Filter: "*", GroupBy: true}),
		})
		errs = append(errs, err)
		for _, f := range found {
			for _, id := range ids[f.tags[o.options.Tag]] {
				series.add(id, f.samples)
			}
		}
	}
	if q.OfDomain {
		found, err := o.query(ctx, q, tsdbQuery{Metric: q.Metric, Aggregator: o.options.Aggregator, ExplicitTags: true, Filters: filters})
		errs = append(errs, err)
		for _, f := range found {
			series.add(engines.OfDomain, f.samples)
		}
	}
	return series, errors.Join(errs...)
}

func (o *OpenTSDB) query(ctx context.Context, q Query, query tsdbQuery) ([]tsdbSeries, error) {
	body, err := json.Marshal(tsdbRequest{
		Start: q.From.UnixMilli(), End: q.To.UnixMilli(), MsResolution: true, Queries: []tsdbQuery{query},
	})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	status, answer, err := ask(o.client, r, o.options.Header)
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, tsdbFailure(status, answer)
	}
	series, err := decodeTSDB(answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return series, nil
}

// tsdbFailure is the error of an answer that is no success; nil where all it says
// is that the server has not heard of a metric or a tag: then there are no samples.
func tsdbFailure(status int, body []byte) error {
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	message := ""
	if json.Unmarshal(body, &answer) == nil {
		message = answer.Error.Message
	}
	switch {
	case status == http.StatusBadRequest && strings.HasPrefix(message, "No such name for '"):
		return nil
	case message != "":
		return fmt.Errorf("it answered %d: %s", status, excerpt(message))
	}
	return statusError(status, body)
}

// tsdbName refuses a name that OpenTSDB does not allow, or that would say more in a
// filter than a name.
func tsdbName(name string) error {
	bad := func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-_./", c)
	}
	if name == "" || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("OpenTSDB has no name %q: only letters, digits and - _ . / are allowed", name)
	}
	return nil
}
