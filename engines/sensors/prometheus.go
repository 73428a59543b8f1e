package sensors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-524e47bf/epum/engines"
)

// The queries where engine_conf.sensor_queries has none for a metric: the samples
// of the period, as they were scraped, with their own times.
const (
	prometheusInstances = `{__name__={{quote .Metric}},owner={{quote .Owner}},domain={{quote .Domain}},%s!=""}[{{.Period}}]`
	prometheusDomain    = `{__name__={{quote .Metric}},owner={{quote .Owner}},domain={{quote .Domain}},%s=""}[{{.Period}}]`
)

var labelForm = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// prometheusAtOnce bounds the requests of one fetch whose query names the instance.
const prometheusAtOnce = 8

// PrometheusOptions are the service's own settings of a Prometheus server.
type PrometheusOptions struct {
	URL     string        // http://host:9090, maybe with a path before /api, and with user:password@
	Timeout time.Duration // of one request; 0: DefaultTimeout
	Header  http.Header   // sent with each request, as Authorization; nil: none
	Label   string        // that says whose a series is; "": instance_id
	// Field is the reported field whose value the label has; "": it has the
	// instance's id.
	Field  string
	Logger *slog.Logger // nil: slog.Default()
}

// Prometheus is the source prometheus: the HTTP API of a Prometheus server, and of
// whatever else speaks it.
//
// A metric's query comes from engine_conf.sensor_queries, else it is the samples of
// the period of series with that name and the labels owner, domain, and, for
// instances, instance_id. One request asks for all instances, and the label says
// whose each series of the answer is; what has no such label is the domain's own.
// Where a query names the instance ({{.Instance}}), it is asked once for each, and
// with "" for the domain. An answer may be a matrix (as x[90s] gives), a vector or a
// scalar. All series of one instance count together: a query should aggregate what
// it does not want so.
//
// It uses net/http and not Prometheus's own client, which reads answers of any size,
// and brings a JSON library, protobuf and the metrics model for one request.
type Prometheus struct {
	options   PrometheusOptions
	url       string
	client    *http.Client
	instances *engines.QueryTemplate
	domain    *engines.QueryTemplate
	warned    atomic.Int64 // when, in Unix nanoseconds
}

// NewPrometheus makes the source. The error says which option is wrong.
func NewPrometheus(o PrometheusOptions) (*Prometheus, error) {
	base, err := baseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("sensors: URL of Prometheus: %w", err)
	}
	if o.Label == "" {
		o.Label = "instance_id"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	p := &Prometheus{options: o, url: base.JoinPath("api/v1/query").String(), client: NewClient(o.Timeout)}
	if !labelForm.MatchString(o.Label) {
		return nil, fmt.Errorf("sensors: label of Prometheus: %q is none", o.Label)
	}
	if p.instances, err = engines.ParseQuery(fmt.Sprintf(prometheusInstances, o.Label)); err != nil {
		return nil, fmt.Errorf("sensors: query of Prometheus: %w", err)
	}
	if p.domain, err = engines.ParseQuery(fmt.Sprintf(prometheusDomain, o.Label)); err != nil {
		return nil, fmt.Errorf("sensors: query of Prometheus: %w", err)
	}
	return p, nil
}

// Fetch implements Source.
func (p *Prometheus) Fetch(ctx context.Context, q Query) (Series, error) {
	series := Series{}
	if q.Template == "" {
		theirs, own := q, q
		theirs.OfDomain, own.Instances = false, nil
		return series, errors.Join(p.fetchAll(ctx, p.instances, theirs, series), p.fetchAll(ctx, p.domain, own, series))
	}
	t, err := engines.ParseQuery(q.Template)
	if err != nil {
		return nil, fmt.Errorf("the query: %w", err)
	}
	if t.PerInstance {
		return p.fetchEach(ctx, t, q)
	}
	return series, p.fetchAll(ctx, t, q, series)
}

// fetchAll adds to series what one request gives of those that are asked for.
func (p *Prometheus) fetchAll(ctx context.Context, t *engines.QueryTemplate, q Query, series Series) error {
	if len(q.Instances) == 0 && !q.OfDomain {
		return nil
	}
	answer, err := p.query(ctx, t, q, "")
	if err != nil {
		return err
	}
	ids := byLabel(q.Instances, p.options.Field)
	for _, s := range answer {
		label := s.labels[p.options.Label]
		if label == "" && q.OfDomain {
			series.add(engines.OfDomain, s.samples)
		}
		for _, id := range ids[label] {
			series.add(id, s.samples)
		}
	}
	return nil
}

// fetchEach asks for each instance, and for the domain.
func (p *Prometheus) fetchEach(ctx context.Context, t *engines.QueryTemplate, q Query) (Series, error) {
	who, labels := []string{}, []string{}
	if q.OfDomain {
		who, labels = append(who, engines.OfDomain), append(labels, "")
	}
	for _, i := range q.Instances {
		who, labels = append(who, i.ID), append(labels, LabelOf(i, p.options.Field))
	}
	answers, errs := make([][]promSeries, len(who)), make([]error, len(who))
	atOnce(prometheusAtOnce, len(who), func(n int) { answers[n], errs[n] = p.query(ctx, t, q, labels[n]) })
	series, failed := Series{}, 0
	var first error
	for n, answer := range answers {
		for _, s := range answer {
			series.add(who[n], s.samples)
		}
		if errs[n] != nil {
			failed++
			first = cmp.Or(first, errs[n])
		}
	}
	if first != nil {
		return series, fmt.Errorf("%d of %d queries failed, the first: %w", failed, len(who), first)
	}
	return series, nil
}

// query asks one query, of all (instance "") or for one.
func (p *Prometheus) query(ctx context.Context, t *engines.QueryTemplate, q Query, instance string) ([]promSeries, error) {
	query, err := t.Render(engines.QueryVars{
		Owner: q.Domain.Owner, Domain: q.Domain.Name, Instance: instance, Metric: q.Metric, Period: promDuration(q.To.Sub(q.From)),
	})
	if err != nil {
		return nil, err
	}
	form := url.Values{"query": {query}, "time": {promTime(q.To)}, "timeout": {promDuration(p.client.Timeout)}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := ask(p.client, r, p.options.Header)
	if err != nil {
		return nil, err
	}
	series, warnings, err := decodeProm(body)
	var refused *promError
	switch {
	case errors.As(err, &refused):
		return nil, fmt.Errorf("it refuses the query %s: %w", excerpt(query), err)
	case status != http.StatusOK:
		return nil, statusError(status, body)
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(warnings) > 0 {
		p.warn(q, warnings)
	}
	return series, nil
}

// warn says what the server warns of, once a minute at most.
func (p *Prometheus) warn(q Query, warnings []string) {
	now, last := time.Now().UnixNano(), p.warned.Load()
	if now-last >= int64(time.Minute) && p.warned.CompareAndSwap(last, now) {
		p.options.Logger.Warn("prometheus answers with warnings", "owner", q.Domain.Owner, "domain", q.Domain.Name, "metric", q.Metric,
			"warnings", excerpt(strings.Join(warnings, "; ")))
	}
}
