package cli

import (
	"fmt"
	"image/color"
	"os"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/seed-524e47bf/epum/engines/backtest"
)

// Sizes of a plot, for a screen.
const (
	plotWidth  = 24 * vg.Centimeter
	plotHeight = 11 * vg.Centimeter
	lineWidth  = vg.Length(1.5)
)

// The colours of both sides: they differ also for who cannot tell red from green.
var (
	recordedColour  = color.RGBA{R: 0x44, G: 0x77, B: 0xAA, A: 0xFF}
	candidateColour = color.RGBA{R: 0xEE, G: 0x66, B: 0x77, A: 0xFF}
)

// curve is a number over time.
type curve struct {
	name   string
	points []backtest.Point
	colour color.Color
	dashed bool
}

// writePlot draws curves, which are steps, into an SVG file.
func writePlot(file, title string, curves []curve) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Tick.Marker = times{}
	p.X.Label.Text = "UTC"
	p.Y.Label.Text, p.Y.Tick.Marker = "instances", wholes{}
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for _, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		points := make(plotter.XYs, len(c.points))
		for n, point := range c.points {
			points[n] = plotter.XY{X: float64(point.Time.UnixNano()) / float64(time.Second), Y: float64(point.Value)}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("plot %s: %w", c.name, err)
		}
		line.StepStyle = plotter.PostStep
		line.LineStyle = draw.LineStyle{Color: c.colour, Width: lineWidth}
		if c.dashed {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.Legend.Add(c.name, line)
	}
	p.Y.Max = max(p.Y.Max*1.4, 1) // room for the legend
	canvas := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(canvas))
	f, err := os.Create(file)
	if err != nil {
		return usageError("--svg: %v", err)
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write the plot: %w", err)
	}
	return f.Close()
}

// mostTicks is how many of an axis have a label.
const mostTicks = 8

// wholes are ticks at whole numbers.
type wholes struct{}

// Ticks implements plot.Ticker.
func (wholes) Ticks(least, most float64) (ticks []plot.Tick) {
	step := 1
	for n := 0; (most-least)/float64(step) > mostTicks; n++ {
		step = []int{2, 5, 10}[n%3] * pow10(n/3)
	}
	for value := 0; float64(value) <= most; value += step {
		ticks = append(ticks, plot.Tick{Value: float64(value), Label: strconv.Itoa(value)})
	}
	return ticks
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

// timeSteps are distances of ticks that a person can count in.
var timeSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute,
	time.Hour, 3 * time.Hour, 6 * time.Hour, day, 2 * day, 7 * day, 28 * day,
}

const day = 24 * time.Hour

// times are ticks at round times, in seconds since 1970, UTC.
type times struct{}

// Ticks implements plot.Ticker.
func (times) Ticks(least, most float64) (ticks []plot.Tick) {
	first, span := time.Unix(int64(least), 0).UTC(), time.Duration((most-least)*float64(time.Second))
	step := timeSteps[len(timeSteps)-1]
	for _, s := range timeSteps {
		if span/s <= mostTicks {
			step = s
			break
		}
	}
	for span/step > mostTicks {
		step *= 2
	}
	format := "01-02 15:04"
	switch {
	case step < time.Minute:
		format = time.TimeOnly
	case step < day && span < day:
		format = "15:04"
	case step >= day:
		format = time.DateOnly
	}
	for at := first.Truncate(step); ; at = at.Add(step) {
		switch seconds := float64(at.Unix()); {
		case seconds > most:
			return ticks
		case seconds >= least:
			ticks = append(ticks, plot.Tick{Value: seconds, Label: at.Format(format)})
		}
	}
}
