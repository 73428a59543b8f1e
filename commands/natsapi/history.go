package natsapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/engines/explain"
	"github.com/seed-524e47bf/epum/engines/sensors"
	"github.com/seed-524e47bf/epum/events"
	"github.com/seed-524e47bf/epum/projections"
)

// The operations that read the log (design §3).
const (
	OpHistory = "history"
	OpExplain = "explain"
)

// eventTypes are the names of all event types.
var eventTypes = func() (names []string) {
	for _, doc := range events.Catalogue {
		names = append(names, doc.Type)
	}
	return names
}()

// history gives events of the caller's own domains, or of a definition.
func (a *API) history(ctx context.Context, r *request) ([]byte, error) {
	domain, instance := r.form.OptionalName("domain_id"), r.form.OptionalName("instance_id")
	definition := r.form.OptionalName("definition_id")
	q := projections.HistoryQuery{
		Reader: r.caller,
		Since:  r.form.Point("since"), Until: r.form.Point("until"), After: r.form.Sequence("after"),
		Limit: r.form.Limit("limit", defaultLimit, mostLimit),
		Room:  int(a.nc.MaxPayload()) - 4<<10,
	}
	if types := r.form.Choices("types", eventTypes...); types != nil {
		q.Types = map[string]bool{}
		for _, t := range types {
			q.Types[t] = true
		}
	}
	if definition != "" && (domain != "" || instance != "") {
		r.form.Refuse("definition_id", "stands alone: a definition's events are no domain's; leave out domain_id and instance_id")
	}
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	leave, err := a.readings.enter(ctx, r.caller)
	if err != nil {
		return nil, err
	}
	defer leave()
	if q.Keys, err = a.ofWhom(ctx, r.caller, domain, instance, definition); err != nil {
		return nil, err
	}
	page, err := a.conf.Past.Page(ctx, q)
	if err != nil {
		return nil, err
	}
	if page.Next == 0 && len(page.Events) == 0 && domain+instance+definition != "" {
		known, err := a.conf.Past.Any(ctx, q.Keys)
		if err != nil {
			return nil, err
		}
		if !known {
			return nil, nothingOf(domain, instance, definition)
		}
	}
	return encode(page)
}

// ofWhom are the keys of what a caller asks for.
func (a *API) ofWhom(ctx context.Context, caller, domain, instance, definition string) ([]events.Key, error) {
	id := events.DomainID{Owner: caller, Name: domain}
	switch {
	case definition != "":
		return []events.Key{events.DefinitionKey(definition)}, nil
	case domain == "" && instance == "":
		return events.OfOwner(caller), nil
	case instance == "":
		return id.Keys(), nil
	case domain == "":
		found, err := a.conf.Past.DomainOf(ctx, caller, instance)
		if errors.Is(err, projections.ErrNotFound) {
			return nil, nothingOf(domain, instance, definition)
		}
		id = found
		if err != nil {
			return nil, err
		}
	}
	return []events.Key{id.InstanceKey(instance)}, nil
}

// nothingOf refuses to tell of what there never was.
func nothingOf(domain, instance, definition string) error {
	switch {
	case definition != "":
		return commands.ErrNotFound.With("there never was a definition %q", definition)
	case instance != "":
		return commands.ErrNotFound.With("you never had an instance %q", instance)
	}
	return commands.ErrNotFound.With("you never had a domain %q", domain)
}

// explainOp explains a domain or an instance.
func (a *API) explainOp(ctx context.Context, r *request) ([]byte, error) {
	domain, instance := r.form.OptionalName("domain_id"), r.form.OptionalName("instance_id")
	point := r.form.Point("as_of")
	switch {
	case domain == "" && instance == "":
		r.form.Refuse("domain_id", "is missing; give that or instance_id")
	case domain != "" && instance != "":
		r.form.Refuse("instance_id", "is given with domain_id; give one of them")
	}
	if err := r.form.Done(); err != nil {
		return nil, err
	}
	leave, err := a.readings.enter(ctx, r.caller)
	if err != nil {
		return nil, err
	}
	defer leave()
	at, err := a.conf.Past.At(ctx, point)
	if err != nil {
		return nil, asOf("as_of", err)
	}
	id := events.DomainID{Owner: r.caller, Name: domain}
	if instance != "" {
		if id, err = a.conf.Past.DomainOf(ctx, r.caller, instance); err != nil {
			return nil, absent(err, domain, instance, at)
		}
	}
	var story *explain.Story
	err = a.conf.Past.Relate(ctx, id, instance, at,
		func(known *events.State) { story = explain.NewStory(id, instance, known) },
		func(r *events.Recorded) { story.Hear(r.Envelope, r.Event) })
	if err != nil {
		return nil, asOf("as_of", err)
	}
	if story.Empty() {
		return nil, absent(projections.ErrNotFound, domain, instance, at)
	}
	present := explain.Present{AsOf: at, Now: at.Time}
	if point == (projections.Point{}) {
		present.Now = time.Now().UTC()
		a.present(ctx, id, story.Domain(), &present)
	}
	return encode(story.Tell(present))
}

// present finds out what is known of a domain beside the log.
func (a *API) present(ctx context.Context, id events.DomainID, domain *events.Domain, p *explain.Present) {
	p.Leading, p.Failure = a.askFailure(ctx, id)
	if domain == nil {
		return
	}
	kind, err := a.conf.Engines.Kind(domain.Config)
	if err != nil || kind.Sensing == nil || a.conf.Samples == nil {
		return
	}
	sensing := kind.Sensing(domain.Config.EngineConf)
	ctx, cancel := context.WithTimeout(ctx, leaderAnswer)
	defer cancel()
	data, err := a.conf.Samples.Get(ctx, id)
	switch {
	case errors.Is(err, projections.ErrNotFound):
		p.Sensing = sensing
	case err == nil:
		if snapshot, err := sensors.DecodeSnapshot(data); err == nil {
			p.Sensing, p.Samples = sensing, &snapshot
		}
	}
}

// describePast is describe_domain as of a point of the log.
func (a *API) describePast(ctx context.Context, id events.DomainID, p projections.Point, after string, limit int) ([]byte, error) {
	leave, err := a.readings.enter(ctx, id.Owner)
	if err != nil {
		return nil, err
	}
	defer leave()
	doc, err := a.conf.Past.DescribeDomain(ctx, id, p, after, limit)
	return doc, asOf("as_of", err)
}

// asOf refuses a point of the log that cannot be looked at.
func asOf(field string, err error) error {
	if err == nil {
		return nil
	}
	none, isAbsent := errors.AsType[*projections.AbsentError](err)
	switch {
	case errors.Is(err, projections.ErrFuture):
		_, detail, _ := strings.Cut(err.Error(), projections.ErrFuture.Error())
		return refusedField(field, "is beyond the log%s", detail)
	case errors.Is(err, projections.ErrPurged): // what there was then is not known, so it is no 404
		return refusedField(field, "is of a time whose events are in the archive only; read them with 'epum history --archive'")
	case isAbsent:
		return commands.ErrNotFound.With("%s", none.Error())
	case errors.Is(err, projections.ErrNotFound):
		return commands.ErrNotFound.With("%s is before the log begins", field)
	}
	return err
}

func refusedField(field, format string, args ...any) error {
	refused := commands.ErrBadRequest.With(field+" "+format, args...)
	refused.Field = field
	return refused
}

// absent says what there was not as of a point.
func absent(err error, domain, instance string, at projections.AsOf) error {
	if !errors.Is(err, projections.ErrNotFound) {
		return err
	}
	what := fmt.Sprintf("domain %q", domain)
	if instance != "" {
		what = fmt.Sprintf("instance %q", instance)
	}
	return commands.ErrNotFound.With("you had no %s up to event %d", what, at.Seq)
}
