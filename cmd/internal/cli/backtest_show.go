package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/seed-524e47bf/epum/engines/backtest"
)

// shownDifferences is how many differing decisions a person is shown; JSON has more.
const shownDifferences = 5

// backtestDocument is a backtest as JSON.
type backtestDocument struct {
	Owner       string               `json:"owner"`
	Domain      string               `json:"domain"`
	Engine      string               `json:"engine"`
	Mode        string               `json:"mode"` // replayed or simulated
	From        time.Time            `json:"from"`
	To          time.Time            `json:"to"`
	Events      int                  `json:"events"`
	Recorded    sideDocument         `json:"recorded"`
	Candidate   sideDocument         `json:"candidate"`
	Same        *int                 `json:"same,omitempty"`
	Unknowable  int                  `json:"unknowable,omitempty"`
	Differing   int                  `json:"differing,omitempty"`
	Differences []differenceDocument `json:"differences,omitempty"`
	Failures    int                  `json:"engine_failures,omitempty"`
	Failure     string               `json:"engine_failure,omitempty"`
	Refused     int                  `json:"reconfigures_refused,omitempty"`
	Notes       []string             `json:"notes,omitempty"`
}

type sideDocument struct {
	Decisions     int             `json:"decisions"`
	Launches      int             `json:"launches"`
	Terminations  int             `json:"terminations"`
	InstanceHours float64         `json:"instance_hours"`
	BelowTarget   float64         `json:"below_target_seconds"`
	MostRunning   int             `json:"most_running"`
	Wanted        []pointDocument `json:"wanted"`
	Running       []pointDocument `json:"running"`
}

type pointDocument struct {
	Time  time.Time `json:"time"`
	Value int       `json:"value"`
}

type differenceDocument struct {
	Seq    uint64          `json:"seq"`
	Time   time.Time       `json:"time"`
	Fields []fieldDocument `json:"fields"`
}

type fieldDocument struct {
	Field    string `json:"field"`
	Recorded string `json:"recorded"`
	Replayed string `json:"replayed"`
}

// mode says in a word how the candidate came about.
func mode(r *backtest.Result) string {
	if r.Replayed != nil {
		return "replayed"
	}
	return "simulated"
}

func backtestTitle(r *backtest.Result) string {
	return fmt.Sprintf("%s of %s: recorded, and %s %s", clean(r.Domain.Name), clean(r.Domain.Owner), r.Policy, mode(r))
}

func backtestCurves(r *backtest.Result) []curve {
	return []curve{
		{name: "wanted, recorded", points: r.Recorded.Wanted, colour: recordedColour, dashed: true},
		{name: "running, recorded", points: r.Recorded.Running, colour: recordedColour},
		{name: "wanted, " + mode(r), points: r.Candidate.Wanted, colour: candidateColour, dashed: true},
		{name: "running, " + mode(r), points: r.Candidate.Running, colour: candidateColour},
	}
}

func (a *app) printBacktest(r *backtest.Result) error {
	if a.output == outputJSON {
		return a.printAs(documentOf(r))
	}
	err := a.printFields(
		"Domain", clean(r.Domain.Name), "Owner", clean(r.Domain.Owner), "Engine", clean(r.Policy),
		"Range", fmt.Sprintf("%s to %s, %d events", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), r.Events),
		"Result", outcomeOf(r),
	)
	if err != nil {
		return err
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	if err := a.printTable([]string{"", "RECORDED", columnOf(r)}, compared(&r.Recorded, &r.Candidate)); err != nil {
		return err
	}
	for _, note := range r.Notes {
		if err := a.print("\nNote: " + clean(note) + ".\n"); err != nil {
			return err
		}
	}
	return a.printDifferences(r)
}

func columnOf(r *backtest.Result) string {
	if r.Replayed != nil {
		return "REPLAYED"
	}
	return "SIMULATED"
}

// outcomeOf says in a sentence what the table cannot.
func outcomeOf(r *backtest.Result) string {
	if p := r.Replayed; p != nil {
		text := fmt.Sprintf("%d of %d recorded decisions come out the same", p.Same, r.Recorded.Decisions)
		if p.Unknowable > 0 {
			text += fmt.Sprintf(", %d cannot be made again", p.Unknowable)
		}
		return text
	}
	text := "simulated; see 'epum backtest --help' for what that cannot know"
	if s := r.Simulated; s.Refused > 0 {
		text += fmt.Sprintf("; %d recorded reconfigures would be refused on top of this config and are left out", s.Refused)
	}
	if s := r.Simulated; s.Failures > 0 {
		text += fmt.Sprintf("; the engine failed %d times: %s", s.Failures, oneLine(s.Failure))
	}
	return text
}

// compared is the table's rows.
func compared(recorded, candidate *backtest.Side) (rows [][]string) {
	for _, row := range []struct {
		name string
		of   func(*backtest.Side) string
	}{
		{"decisions", func(s *backtest.Side) string { return strconv.Itoa(s.Decisions) }},
		{"launches", func(s *backtest.Side) string { return strconv.Itoa(s.Launches) }},
		{"terminations", func(s *backtest.Side) string { return strconv.Itoa(s.Terminations) }},
		{"instance-hours", func(s *backtest.Side) string { return strconv.FormatFloat(s.InstanceHours, 'f', 2, 64) }},
		{"below target", func(s *backtest.Side) string { return s.BelowTarget.Round(time.Millisecond).String() }},
		{"most running", func(s *backtest.Side) string { return strconv.Itoa(s.MostRunning) }},
	} {
		rows = append(rows, []string{row.name, row.of(recorded), row.of(candidate)})
	}
	return rows
}

// printDifferences shows both sides of decisions that come out otherwise.
func (a *app) printDifferences(r *backtest.Result) error {
	if r.Replayed == nil || r.Replayed.Differing == 0 {
		return nil
	}
	const longest = 300 // characters
	shown := r.Replayed.Differences[:min(len(r.Replayed.Differences), shownDifferences)]
	for _, d := range shown {
		if err := a.print(fmt.Sprintf("\nDecision %d of %s\n", d.Seq, d.Time.Format(time.RFC3339Nano))); err != nil {
			return err
		}
		var rows [][]string
		for _, f := range d.Fields {
			rows = append(rows, []string{f.Field, "recorded", short(orDash(clean(f.Recorded)), longest)}, []string{"", "again", short(orDash(clean(f.Replayed)), longest)})
		}
		if err := a.printTable(nil, rows); err != nil {
			return err
		}
	}
	if more := r.Replayed.Differing - len(shown); more > 0 {
		return a.print(fmt.Sprintf("\n%d more differ; -o json has the first %d of all.\n", more, len(r.Replayed.Differences)))
	}
	return nil
}

func documentOf(r *backtest.Result) backtestDocument {
	d := backtestDocument{
		Owner: r.Domain.Owner, Domain: r.Domain.Name, Engine: r.Policy, Mode: mode(r), From: r.From, To: r.To, Events: r.Events,
		Recorded: sideOf(&r.Recorded), Candidate: sideOf(&r.Candidate), Notes: r.Notes,
	}
	if p := r.Replayed; p != nil {
		d.Same, d.Unknowable, d.Differing = &p.Same, p.Unknowable, p.Differing
		for _, one := range p.Differences {
			doc := differenceDocument{Seq: one.Seq, Time: one.Time}
			for _, f := range one.Fields {
				doc.Fields = append(doc.Fields, fieldDocument(f))
			}
			d.Differences = append(d.Differences, doc)
		}
	}
	if s := r.Simulated; s != nil {
		d.Failures, d.Failure, d.Refused = s.Failures, s.Failure, s.Refused
	}
	return d
}

func sideOf(s *backtest.Side) sideDocument {
	points := func(line []backtest.Point) []pointDocument {
		list := make([]pointDocument, len(line))
		for n, p := range line {
			list[n] = pointDocument(p)
		}
		return list
	}
	return sideDocument{
		Decisions: s.Decisions, Launches: s.Launches, Terminations: s.Terminations, InstanceHours: s.InstanceHours,
		BelowTarget: s.BelowTarget.Seconds(), MostRunning: s.MostRunning, Wanted: points(s.Wanted), Running: points(s.Running),
	}
}
