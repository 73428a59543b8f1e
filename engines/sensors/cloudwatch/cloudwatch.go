// Package cloudwatch is the source cloudwatch of metrics: Amazon CloudWatch. It has
// a package of its own, since no other source needs Amazon's SDK.
package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/seed-524e47bf/epum/engines"
	"github.com/seed-524e47bf/epum/engines/sensors"
)

const (
	// iaasID is the reported field that has the id by which the cloud knows an
	// instance.
	iaasID = "iaas_id"
	// mostQueries is how many queries one request may have, by the API.
	mostQueries = 500
	// mostPages bounds the pages of one request: each has up to 100,800 values.
	mostPages = 100
	// shortestBin is the shortest that the metrics of any service are kept in.
	shortestBin = time.Minute
	// wantedBins is how many a period is divided into, at the most.
	wantedBins = 100
)

// Options are the service's own settings of CloudWatch.
type Options struct {
	Region   string        // as eu-west-1
	Endpoint string        // URL of another service that speaks the API; "": Amazon's
	Timeout  time.Duration // of one request, its repeats counted; 0: sensors.DefaultTimeout
	// Namespace is where the metrics of instances are, with the dimension InstanceId;
	// "": AWS/EC2.
	Namespace string
	// DomainNamespace is where those of domains are, with the dimensions Owner and
	// Domain; "": epum.
	DomainNamespace string
	// Credentials are who asks; nil: what the SDK finds, in the environment, its
	// files, or the machine's role.
	Credentials aws.CredentialsProvider
}

// Source is the source cloudwatch. It is safe for concurrent use.
//
// A metric of an instance has the dimension InstanceId: its reported iaas_id, or its
// own id. One of a domain has the dimensions Owner and Domain, both plain names, and
// not AutoScalingGroupName: the name of a domain is its owner's alone, and no group
// of Amazon's has it. engine_conf.sensor_queries is not used.
//
// CloudWatch gives its statistics of bins of a minute, or for a long period of as
// many minutes as make 100 of it. It gets them a minute or more late, and those of
// EC2 come every five minutes unless detailed monitoring is on: with a sample_period
// of less than some minutes there often is nothing.
type Source struct {
	options Options
	timeout time.Duration
	client  *cloudwatch.Client
}

var _ sensors.Source = (*Source)(nil)

// New makes the source. It asks nobody yet.
func New(ctx context.Context, o Options) (*Source, error) {
	if o.Region == "" {
		return nil, errors.New("cloudwatch: a region is wanted")
	}
	if u, err := url.Parse(o.Endpoint); o.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return nil, errors.New("cloudwatch: the endpoint is no URL such as https://host")
	}
	if o.Namespace == "" {
		o.Namespace = "AWS/EC2"
	}
	if o.DomainNamespace == "" {
		o.DomainNamespace = "epum"
	}
	settings := []func(*config.LoadOptions) error{config.WithRegion(o.Region)}
	if o.Credentials != nil {
		settings = append(settings, config.WithCredentialsProvider(o.Credentials))
	}
	cfg, err := config.LoadDefaultConfig(ctx, settings...)
	if err != nil {
		return nil, fmt.Errorf("cloudwatch: %w", err)
	}
	s := &Source{options: o, timeout: o.Timeout}
	if s.timeout <= 0 {
		s.timeout = sensors.DefaultTimeout
	}
	s.client = cloudwatch.NewFromConfig(cfg, func(options *cloudwatch.Options) {
		options.HTTPClient = sensors.NewClient(s.timeout)
		if o.Endpoint != "" {
			options.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	return s, nil
}

// asked is whose metric is asked for, by its place in the queries.
type asked struct {
	whose  string // instance id or engines.OfDomain
	metric types.Metric
}

// Fetch implements sensors.Source.
func (s *Source) Fetch(ctx context.Context, q sensors.Query) (sensors.Series, error) {
	var all []asked
	if q.OfDomain {
		all = append(all, asked{engines.OfDomain, metric(s.options.DomainNamespace, q.Metric, "Owner", q.Domain.Owner, "Domain", q.Domain.Name)})
	}
	for _, i := range q.Instances {
		all = append(all, asked{i.ID, metric(s.options.Namespace, q.Metric, "InstanceId", sensors.LabelOf(i, iaasID))})
	}
	series := sensors.Series{}
	var errs []error
	for each := mostQueries / len(statistics(q.Statistic)); len(all) > 0; {
		part := all[:min(each, len(all))]
		all = all[len(part):]
		errs = append(errs, s.fetch(ctx, q, part, series))
	}
	return series, errors.Join(errs...)
}

func metric(namespace, name string, dimensions ...string) types.Metric {
	m := types.Metric{Namespace: aws.String(namespace), MetricName: aws.String(name)}
	for n := 0; n < len(dimensions); n += 2 {
		m.Dimensions = append(m.Dimensions, types.Dimension{Name: aws.String(dimensions[n]), Value: aws.String(dimensions[n+1])})
	}
	return m
}

// statistics are what is asked for of each bin, under the letter of its query's id.
// CloudWatch has the same names. An average needs to know of how many it is.
func statistics(wanted string) map[string]string {
	switch wanted {
	case engines.StatisticAverage:
		return map[string]string{"v": engines.StatisticAverage, "n": engines.StatisticSampleCount}
	case engines.StatisticSeries:
		return map[string]string{"v": engines.StatisticAverage}
	}
	return map[string]string{"v": wanted}
}

// bins are the bins of a period, and when the first begins.
func bins(from, to time.Time) (length time.Duration, begin time.Time) {
	length = (to.Sub(from) / wantedBins).Truncate(shortestBin)
	if length*wantedBins < to.Sub(from) {
		length += shortestBin
	}
	return length, from.Truncate(length)
}

// fetch adds to series what one request gives, with its pages.
func (s *Source) fetch(ctx context.Context, q sensors.Query, all []asked, series sensors.Series) error {
	length, begin := bins(q.From, q.To)
	input := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(begin), EndTime: aws.Time(q.To), ScanBy: types.ScanByTimestampAscending}
	for n, a := range all {
		for letter, statistic := range statistics(q.Statistic) {
			input.MetricDataQueries = append(input.MetricDataQueries, types.MetricDataQuery{
				Id: aws.String(letter + strconv.Itoa(n)),
				MetricStat: &types.MetricStat{
					Metric: &a.metric, Period: aws.Int32(int32(length / time.Second)), Stat: aws.String(statistic),
				},
			})
		}
	}
	found := map[string]map[time.Time]float64{} // query's id → bin → value
	err := s.pages(ctx, input, found)
	for n, a := range all {
		values, counts := found["v"+strconv.Itoa(n)], found["n"+strconv.Itoa(n)]
		if q.Statistic == engines.StatisticSampleCount {
			counts = values
		}
		for _, at := range slices.SortedFunc(maps.Keys(values), time.Time.Compare) {
			series[a.whose] = append(series[a.whose], sensors.Sample{Time: at, Value: values[at], Of: counts[at]})
		}
	}
	return err
}

// pages adds what all pages of a request give.
func (s *Source) pages(ctx context.Context, input *cloudwatch.GetMetricDataInput, found map[string]map[time.Time]float64) error {
	pages := cloudwatch.NewGetMetricDataPaginator(s.client, input, func(o *cloudwatch.GetMetricDataPaginatorOptions) { o.StopOnDuplicateToken = true })
	var failed error
	for n := 0; pages.HasMorePages(); n++ {
		if n == mostPages {
			return fmt.Errorf("it answers with more than %d pages", mostPages)
		}
		page, err := s.page(ctx, pages)
		if err != nil {
			return err
		}
		for _, result := range page.MetricDataResults {
			if err := failure(result); err != nil && failed == nil {
				failed = err
			}
			id := aws.ToString(result.Id)
			if found[id] == nil {
				found[id] = map[time.Time]float64{}
			}
			for k := range min(len(result.Timestamps), len(result.Values)) {
				found[id][result.Timestamps[k].UTC()] = result.Values[k]
			}
		}
	}
	return failed
}

func (s *Source) page(ctx context.Context, pages *cloudwatch.GetMetricDataPaginator) (*cloudwatch.GetMetricDataOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return pages.NextPage(ctx)
}

// failure is what a result says that is no success; more pages of it are one.
func failure(result types.MetricDataResult) error {
	switch result.StatusCode {
	case types.StatusCodeInternalError, types.StatusCodeForbidden:
		text := []string{string(result.StatusCode)}
		for _, m := range result.Messages {
			text = append(text, aws.ToString(m.Value))
		}
		return fmt.Errorf("it answers a query with %.300s", strings.Join(text, ": "))
	}
	return nil
}
