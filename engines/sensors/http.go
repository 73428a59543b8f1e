package sensors

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	// DefaultTimeout bounds one request of a source whose options have no Timeout.
	DefaultTimeout = 5 * time.Second
	// MaxAnswerBytes bounds what is read of one answer, unpacked.
	MaxAnswerBytes = 8 << 20
	// mostErrorText is how much an error says of what a server answered, in bytes.
	mostErrorText = 300
)

// ErrTooLarge is returned for an answer of more than MaxAnswerBytes.
var ErrTooLarge = fmt.Errorf("sensors: the answer is larger than %d MiB", MaxAnswerBytes>>20)

// NewClient makes the HTTP client of a source: each request ends within timeout (0:
// DefaultTimeout), redirects are not followed, since only the service's configuration
// says who is asked, and reading more than MaxAnswerBytes fails with ErrTooLarge.
func NewClient(timeout time.Duration) *http.Client {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // somebody has replaced it
		base = &http.Transport{}
	}
	return &http.Client{
		Timeout:       timeout,
		Transport:     bounded{base.Clone()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded bounds the bodies of answers.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = &boundedBody{ReadCloser: answer.Body, left: MaxAnswerBytes}
	}
	return answer, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}

// ask sends a request and gives the status and the whole body.
func ask(client *http.Client, r *http.Request, header http.Header) (status int, body []byte, err error) {
	maps.Copy(r.Header, header)
	answer, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	if body, err = io.ReadAll(answer.Body); err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return answer.StatusCode, body, nil
}

// statusError says what a server answered that is no success.
func statusError(status int, body []byte) error {
	return fmt.Errorf("it answered %d %s: %s", status, http.StatusText(status), excerpt(string(body)))
}

// excerpt is the beginning of a text of a server, on one line.
func excerpt(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text[:min(len(text), mostErrorText)], "")), " ")
	if text == "" {
		return "nothing"
	}
	return text
}

// baseURL checks the URL of a server.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("it is no URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("a URL such as http://host:9090 is wanted")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("a URL without ? and # is wanted")
	}
	return u, nil
}

// byLabel gives, for a label's value, the ids of the instances that have it: their
// own ids, or with a field what they have reported there (the id where nothing).
func byLabel(instances []*events.Instance, field string) map[string][]string {
	ids := make(map[string][]string, len(instances))
	for _, i := range instances {
		label := LabelOf(i, field)
		ids[label] = append(ids[label], i.ID)
	}
	return ids
}
