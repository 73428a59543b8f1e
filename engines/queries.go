package engines

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// mostQueryBytes bounds the text of a query template.
const mostQueryBytes = 4 << 10

// QueryVars is what a query template may name.
type QueryVars struct {
	Owner, Domain string
	Instance      string // as the source names it, mostly its id; "" where the query is for all, or for the domain's own
	Metric        string
	Period        string // as Prometheus writes it: "90s"
}

// QueryTemplate is a template of the query for a metric (engine_conf.sensor_queries).
// Users write them, and the leader executes them: so it has none of what could
// keep a process busy, as loops, and templates within templates.
type QueryTemplate struct {
	t *template.Template
	// PerInstance says that it names the instance: the query is another one for each.
	PerInstance bool
}

var errQueryForm = errors.New("a query may have only text, {{.Owner}}, {{.Domain}}, {{.Instance}}, {{.Metric}}, {{.Period}}, {{quote …}} of one of them, and {{if …}}{{else}}{{end}}")

// ParseQuery reads a query template. The error says in one clause what is wrong.
func ParseQuery(text string) (*QueryTemplate, error) {
	if len(text) > mostQueryBytes {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(text), mostQueryBytes)
	}
	t, err := template.New("query").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no template: %w", err)
	case t.Tree == nil || strings.TrimSpace(text) == "":
		return nil, errors.New("it is empty")
	case len(t.Templates()) > 1:
		return nil, errQueryForm
	}
	q := &QueryTemplate{t: t}
	if !q.allows(t.Root) {
		return nil, errQueryForm
	}
	for _, instance := range []string{"", "i"} {
		if _, err := q.Render(QueryVars{Owner: "o", Domain: "d", Instance: instance, Metric: "m", Period: "1s"}); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// Render gives the query.
func (q *QueryTemplate) Render(vars QueryVars) (string, error) {
	var b strings.Builder
	if err := q.t.Execute(&b, vars); err != nil {
		return "", fmt.Errorf("render the query: %w", err)
	}
	return b.String(), nil
}

// allows looks whether a part of a template is among what it may have, and for
// the name of the instance.
func (q *QueryTemplate) allows(node parse.Node) bool {
	switch n := node.(type) {
	case *parse.ListNode:
		return n == nil || !slices.ContainsFunc(n.Nodes, func(part parse.Node) bool { return !q.allows(part) })
	case *parse.TextNode:
		return true
	case *parse.ActionNode:
		return q.allowsPipe(n.Pipe)
	case *parse.IfNode:
		return q.allowsPipe(n.Pipe) && q.allows(n.List) && q.allows(n.ElseList)
	}
	return false
}

// allowsPipe allows a field, and quote once or twice: each time may double its
// length.
func (q *QueryTemplate) allowsPipe(pipe *parse.PipeNode) bool {
	if len(pipe.Decl) > 0 || len(pipe.Cmds) > 2 {
		return false
	}
	for _, cmd := range pipe.Cmds {
		for _, arg := range cmd.Args {
			switch n := arg.(type) {
			case *parse.IdentifierNode:
				if n.Ident != "quote" {
					return false
				}
			case *parse.FieldNode:
				if len(n.Ident) > 1 || !slices.Contains(queryFields, n.Ident[0]) {
					return false
				}
				q.PerInstance = q.PerInstance || n.Ident[0] == "Instance"
			default:
				return false
			}
		}
	}
	return true
}

var queryFields = []string{"Owner", "Domain", "Instance", "Metric", "Period"}
