package events

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNameBytes is the longest plain name, in bytes of UTF-8 (design §3).
const MaxNameBytes = 128

// ErrName is returned when a plain name breaks the rules of design §3.
var ErrName = errors.New("events: bad name")

// ErrToken is returned when a subject token is no canonical form of a name.
var ErrToken = errors.New("events: bad token")

// CheckName reports whether name is 1 to 128 bytes of UTF-8 with no control
// characters, and neither "." nor "..". The error wraps ErrName and says what
// is wrong.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > MaxNameBytes:
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrName, len(name), MaxNameBytes)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is reserved", ErrName, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: %q has a control character", ErrName, name)
	}
	return nil
}

// Token is the form of a name in a subject or a key: each byte outside
// A-Z a-z 0-9 _ - is written =XX in upper-case hex; the plain name "-" is "=2D".
func Token(name string) string {
	if name == "-" {
		return "=2D"
	}
	n := 0
	for i := range len(name) {
		if !plainByte(name[i]) {
			n++
		}
	}
	if n == 0 {
		return name
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(name) + 2*n)
	for i := range len(name) {
		if c := name[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// ParseToken gives the plain name of a token. The error wraps ErrToken where
// the token is not the canonical form of a name, and ErrName where the name
// itself breaks the rules.
func ParseToken(token string) (string, error) {
	if usual(token) {
		return token, nil
	}
	name := token
	if strings.IndexByte(token, '=') >= 0 {
		b := make([]byte, 0, len(token))
		for i := 0; i < len(token); i++ {
			if token[i] != '=' {
				b = append(b, token[i])
				continue
			}
			if i+2 >= len(token) {
				return "", fmt.Errorf("%w: %q ends inside an escape", ErrToken, token)
			}
			b = append(b, unhex(token[i+1])<<4|unhex(token[i+2])&15)
			i += 2
		}
		name = string(b)
	}
	if Token(name) != token {
		return "", fmt.Errorf("%w: %q is not the canonical form of a name", ErrToken, token)
	}
	return name, CheckName(name)
}

// usual tells of most tokens that they are names as they stand.
func usual(token string) bool {
	for i := range len(token) {
		if !plainByte(token[i]) {
			return false
		}
	}
	return token != "" && token != "-" && len(token) <= MaxNameBytes
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// unhex gives a wrong value for anything but upper-case hex, which the
// comparison with the canonical form then refuses.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xFF
}
