package sensors_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-524e47bf/epum/engines/sensors"
)

// server is a server of metrics: it answers each request by a function, and
// remembers what it was asked.
type server struct {
	URL string

	mu    sync.Mutex
	asked []request
}

type request struct {
	*http.Request
	body string
}

func serve(t *testing.T, answer func(w http.ResponseWriter, r request)) *server {
	t.Helper()
	s := &server{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		_ = r.ParseForm()
		asked := request{r, string(body)}
		s.mu.Lock()
		s.asked = append(s.asked, asked)
		s.mu.Unlock()
		answer(w, asked)
	}))
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

func (s *server) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// testFaults asks a source whose server fails, in each way that any may.
func testFaults(t *testing.T, connect func(url string, timeout time.Duration) sensors.Source, q sensors.Query) {
	t.Helper()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r request)
		says   string
	}{
		"500": {func(w http.ResponseWriter, _ request) { w.WriteHeader(500); fmt.Fprint(w, "<b>down\n\n</b>") }, "500 Internal Server Error: <b>down </b>"},
		"401": {func(w http.ResponseWriter, _ request) { w.WriteHeader(401) }, "401 Unauthorized: nothing"},
		"redirect": {func(w http.ResponseWriter, r request) {
			http.Redirect(w, r.Request, "http://127.0.0.1:1/", http.StatusFound)
		}, "302 Found"},
		"nothing": {func(http.ResponseWriter, request) {}, "answer"},
		"garbage": {func(w http.ResponseWriter, _ request) { fmt.Fprint(w, "<html>welcome") }, "answer"},
		"cut off": {func(w http.ResponseWriter, _ request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"status":"suc`)
		}, "unexpected EOF"},
		"hangs up": {func(http.ResponseWriter, request) { panic(http.ErrAbortHandler) }, "EOF"},
		"huge":     {func(w http.ResponseWriter, _ request) { _, _ = w.Write(bytes.Repeat([]byte(" "), 9<<20)) }, "larger than 8 MiB"},
		"deep":     {func(w http.ResponseWriter, _ request) { fmt.Fprint(w, strings.Repeat("[", 100_000)) }, "answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.answer)
			got, err := connect(s.URL, 0).Fetch(t.Context(), q)
			if err == nil || !strings.Contains(err.Error(), c.says) || len(got) != 0 {
				t.Errorf("%v, %v", got, err)
			}
			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n\n") {
				t.Errorf("no error for people: %s", err)
			}
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(_ http.ResponseWriter, r request) { <-r.Context().Done() })
		if _, err := connect(s.URL, 50*time.Millisecond).Fetch(t.Context(), q); err == nil || !strings.Contains(err.Error(), "exceeded") {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := connect(s.URL, time.Hour).Fetch(ctx, q); err == nil || !strings.Contains(err.Error(), "exceeded") {
			t.Error(err)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		if _, err := connect("http://user:secret@127.0.0.1:1", 0).Fetch(t.Context(), q); err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	})
}
