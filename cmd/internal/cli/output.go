package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-isatty"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// print writes a text to stdout, whole or with an error.
func (a *app) print(text string) error {
	_, err := io.WriteString(a.stdout, text)
	return err
}

// printJSON writes one JSON document and a line's end.
func (a *app) printJSON(doc []byte) error {
	return a.print(string(bytes.TrimSpace(doc)) + "\n")
}

// printAs writes what a value is as JSON.
func (a *app) printAs(v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return a.printJSON(doc)
}

// printFields writes pairs of a name and a value, a line each; an empty value
// leaves its line out.
func (a *app) printFields(pairs ...string) error {
	var rows [][]string
	for n := 0; n < len(pairs); n += 2 {
		if pairs[n+1] != "" {
			rows = append(rows, pairs[n:n+2])
		}
	}
	return a.printTable(nil, rows)
}

// printTable writes rows under a header (nil: none), columns two spaces apart.
func (a *app) printTable(header []string, rows [][]string) error {
	var b bytes.Buffer
	table := tablewriter.NewTable(
		&b,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
		})),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAlignment(tw.AlignLeft), tablewriter.WithRowAlignment(tw.AlignLeft),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone), tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Right: "  ", Overwrite: true}),
	)
	if header != nil {
		table.Header(header)
	}
	if err := table.Bulk(rows); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	if err := table.Render(); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for n := range lines {
		lines[n] = strings.TrimRight(lines[n], " ") + "\n"
	}
	return a.print(strings.Join(lines, ""))
}

// colour is the number of an ANSI colour.
type colour int

const (
	red    colour = 31
	green  colour = 32
	yellow colour = 33
)

// paint colours a text for people who look at a terminal.
func (a *app) paint(c colour, text string) string {
	if text == "" || !a.colours(a.stdout) {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text)
}

// colours reports whether to colour what goes to w.
func (a *app) colours(w io.Writer) bool {
	return !a.noColor && environment("NO_COLOR") == "" && isTerminal(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// clean makes a text from elsewhere fit for a terminal: control characters,
// which could move the cursor or break the line, become spaces.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

// short cuts a text to at most n characters.
func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// age is the time since t for people: 5s, 12m, 3h, 4d; "" for the zero time.
func age(t, now time.Time) string {
	d := max(now.Sub(t), 0) // clocks differ a little
	switch {
	case t.IsZero():
		return ""
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// plain is a JSON value as a text: a string without quotes, nothing for null.
func plain(value json.RawMessage) string {
	var s string
	switch {
	case len(value) == 0 || string(value) == "null":
		return ""
	case json.Unmarshal(value, &s) == nil:
		return clean(s)
	}
	return clean(string(value))
}

// cleanLines is clean for a text whose lines are meant.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for n := range lines {
		lines[n] = clean(lines[n])
	}
	return strings.Join(lines, "\n")
}
