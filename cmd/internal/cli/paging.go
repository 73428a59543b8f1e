package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/commands/natsapi"
	"github.com/seed-524e47bf/epum/projections"
)

// pageSize is how many names or instances one request asks for: the most that
// the service reads in one go (design §2, 4).
const pageSize = 1000

// paging is which part of a long list is asked for.
type paging struct {
	after string
	limit int               // 0: all
	asOf  projections.Point // of describe; zero: now
}

func (p *paging) flags(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&p.after, "after", "", "only "+what+" that sort after this one")
	cmd.Flags().IntVar(&p.limit, "limit", 0, "at most this many "+what+" (0: all)")
	must(cmd.RegisterFlagCompletionFunc("after", cobra.NoFileCompletions))
}

// pageRequest is the request of list and describe.
type pageRequest struct {
	DomainID string `json:"domain_id,omitempty"`
	After    string `json:"after,omitempty"`
	Limit    int    `json:"limit"`
	AsOf     any    `json:"as_of,omitempty"`
}

// read asks for page after page of what is in the reply's field, and gives one
// reply that holds it all: the first page's, as it came where there is only
// one; its "next" stays only where --limit cut the list.
func (p *paging) read(s *session, op, domain, field string) (json.RawMessage, error) {
	if p.limit < 0 {
		return nil, usageError("--limit %d is below zero", p.limit)
	}
	request := pageRequest{DomainID: domain, After: p.after, AsOf: natsapi.PointJSON(p.asOf)}
	var first json.RawMessage
	var all []json.RawMessage
	for pages := 1; ; pages++ {
		request.Limit = pageSize
		if p.limit > 0 {
			request.Limit = min(pageSize, p.limit-len(all))
		}
		reply, err := s.page(op, request)
		if err != nil {
			return nil, err
		}
		items, next, err := pageOf(reply, field)
		if err != nil {
			return nil, fmt.Errorf("%s: the reply cannot be read: %w", op, err)
		}
		all = append(all, items...)
		if pages == 1 {
			first = reply
		}
		done := next == "" || len(items) == 0 || p.limit > 0 && len(all) >= p.limit
		switch {
		case done && pages == 1:
			return first, nil
		case done:
			return merged(first, field, all, next)
		}
		request.After = next
		if request.AsOf != nil {
			request.AsOf = asOfSeq(reply) // the same for all pages
		}
	}
}

// page asks for one page.
func (s *session) page(op string, request pageRequest) (json.RawMessage, error) {
	if request.AsOf == nil {
		return s.call(op, request)
	}
	reply, err := s.call(op, request, natsapi.Patiently)
	if f, ok := errors.AsType[*fault](err); ok {
		f.final = true // it says when there was one
	}
	return reply, err
}

// asOfSeq is the sequence that a domain document is as of.
func asOfSeq(reply json.RawMessage) uint64 {
	var doc struct {
		AsOf projections.AsOf `json:"as_of"`
	}
	_ = json.Unmarshal(reply, &doc) // which has been read before
	return doc.AsOf.Seq
}

func pageOf(reply json.RawMessage, field string) (items []json.RawMessage, next string, err error) {
	var page map[string]json.RawMessage
	if err := json.Unmarshal(reply, &page); err != nil {
		return nil, "", err
	}
	if err := json.Unmarshal(page[field], &items); err != nil {
		return nil, "", err
	}
	return items, plain(page["next"]), nil
}

// merged is the first page with the items of all.
func merged(first json.RawMessage, field string, all []json.RawMessage, next string) (json.RawMessage, error) {
	var page map[string]json.RawMessage
	err := json.Unmarshal(first, &page)
	if err != nil {
		return nil, err
	}
	if page[field], err = json.Marshal(all); err != nil {
		return nil, err
	}
	delete(page, "next")
	if next != "" {
		if page["next"], err = json.Marshal(next); err != nil {
			return nil, err
		}
	}
	return json.Marshal(page)
}

// noteNext tells a person how to go on after a list that --limit cut.
func (a *app) noteNext(next string) {
	if next != "" && a.output == outputTable {
		fmt.Fprintf(a.stderr, "epum: there are more; go on with --after %q\n", next)
	}
}
