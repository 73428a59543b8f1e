package schedule

import (
	"errors"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

// The parser of choice, github.com/netresearch/go-cron, is a maintained fork of
// robfig/cron, whose last release is of 2020 and which finds only the next time; it
// finds the last one as well, and a parsed expression is a few bit sets.
// (github.com/adhocore/gronx finds the last time too, but reads the expression
// anew at each step of its search.) It is given times without a zone alone: what a
// changing clock means is decided here.

// longest is how long ago an entry may have fired to be in force still: a yearly
// one always is.
const longest = 366 * 24 * time.Hour

// clock is a cron expression on the wall clock of a zone.
type clock struct {
	expr *cron.SpecSchedule
	zone *time.Location
}

// readCron reads five fields: minute, hour, day of the month, month, day of the
// week. As with cron, where both days are restricted either one will do.
func readCron(text string) (*cron.SpecSchedule, error) {
	if len(strings.Fields(text)) != 5 || strings.Contains(text, "=") {
		return nil, errors.New("must have five fields: minute, hour, day of the month, month, day of the week")
	}
	parser := cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom)
	parsed, err := parser.Parse(strings.ToLower(text)) // the names of months and days are known in lower case
	if err != nil {
		return nil, errors.New("is no cron expression: " + err.Error())
	}
	expr, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("is no cron expression of five fields")
	}
	expr.Location, expr.MaxSearchYears = time.UTC, 2 // more than the longest time
	if leapYear := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); expr.Next(leapYear.Add(-time.Second)).IsZero() {
		return nil, errors.New("never fires: there is no such day")
	}
	return expr, nil
}

// last is when the entry last fired, at now or before; zero: not within the
// longest time.
func (c *clock) last(now time.Time) time.Time {
	// Where the clock was put back within the last day, it has shown later times
	// already than it shows now.
	wall := latest(onWall(now, c.zone), onWall(now, zoneOf(now.Add(-25*time.Hour), c.zone)))
	wall = wall.Truncate(time.Minute).Add(time.Second)
	for {
		wall = c.expr.Prev(wall)
		if wall.IsZero() {
			return time.Time{}
		}
		switch fired := c.moment(wall); {
		case now.Sub(fired) > longest:
			return time.Time{}
		case !fired.After(now):
			return fired
		}
	}
}

// moment is when the clock of the zone shows a wall time for the first time, or,
// where it is put forward past it, when that is.
func (c *clock) moment(wall time.Time) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), 0, 0, c.zone)
	start, end := t.ZoneBounds()
	switch shown := onWall(t, c.zone); {
	case shown.After(wall):
		return start.UTC() // t is behind the gap, which ends where its offset begins
	case shown.Before(wall):
		return end.UTC()
	}
	if start.IsZero() {
		return t.UTC()
	}
	_, offset := start.Add(-time.Second).Zone()
	if first := wall.Add(-time.Duration(offset) * time.Second); first.Before(start) {
		return first
	}
	return t.UTC()
}

// onWall is what a zone's clock shows, as a time without a zone (UTC).
func onWall(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// zoneOf is the offset that a zone had at a time, as a zone.
func zoneOf(t time.Time, zone *time.Location) *time.Location {
	name, offset := t.In(zone).Zone()
	return time.FixedZone(name, offset)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
