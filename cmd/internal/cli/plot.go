package cli

import (
	"fmt"
	"image/color"
	"os"
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
	p.X.Tick.Marker = plot.TimeTicks{Format: timeFormat(curves)}
	p.Y.Label.Text = "instances"
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
	p.Y.Max = max(p.Y.Max*1.15, 1) // room for the legend
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

// timeFormat is how the time axis is labelled: no finer than the whole needs.
func timeFormat(curves []curve) string {
	var first, last time.Time
	for _, c := range curves {
		if n := len(c.points); n > 0 {
			if first.IsZero() || c.points[0].Time.Before(first) {
				first = c.points[0].Time
			}
			if c.points[n-1].Time.After(last) {
				last = c.points[n-1].Time
			}
		}
	}
	const day = 24 * time.Hour
	switch span := last.Sub(first); {
	case span < time.Hour:
		return "15:04:05"
	case span < day:
		return "15:04"
	case span < 10*day:
		return "01-02 15:04"
	}
	return time.DateOnly
}
