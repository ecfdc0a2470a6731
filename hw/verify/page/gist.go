package page

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/hw/verify/replay"
)

// Bounds of an event's line, in bytes. The whole event stands behind it.
const (
	maxGist  = 240
	maxValue = 64
)

// digits are a digest's or an ID's, of which a line has the first.
var digits = regexp.MustCompile(`\b([0-9a-f]{12})[0-9a-f]{20,}\b`)

// gist says in one line what an event says: its members, without JSON's signs.
func gist(operation string, of any) string {
	var measured any
	text, err := json.Marshal(of, jsontext.AllowInvalidUTF8(true))
	if err != nil || json.Unmarshal(text, &measured, jsontext.AllowInvalidUTF8(true)) != nil {
		return ""
	}
	if m, ok := measured.(map[string]any); ok && len(m) == 1 && m[operation] != nil {
		measured = m[operation]
	}
	var b strings.Builder
	tell(&b, measured, 0)
	return replay.Clip(plain(b.String()), maxGist)
}

// tell writes a value: its depth is that of the members around it. It ends where enough is
// written.
func tell(b *strings.Builder, v any, depth int) {
	switch v := v.(type) {
	case map[string]any:
		first := true
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if b.Len() > maxGist {
				return
			}
			if empty(v[name]) {
				continue
			}
			if !first {
				b.WriteString(map[bool]string{true: "; ", false: ", "}[depth == 0])
			}
			first = false
			b.WriteString(strings.ReplaceAll(name, "_", " ") + " ")
			tell(b, v[name], depth+1)
		}
	case []any:
		for i, one := range v {
			if b.Len() > maxGist {
				return
			}
			if i > 0 {
				b.WriteString(" ")
			}
			tell(b, one, depth+1)
		}
	case string:
		b.WriteString(value(v))
	case nil:
		b.WriteString("null")
	case float64:
		b.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
	default: // true or false
		fmt.Fprint(b, v)
	}
}

// empty reports whether a member says nothing: an empty list or object.
func empty(v any) bool {
	switch v := v.(type) {
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// value is a text as a line has it: bare where it is one word, else between quotation marks,
// and of digests the first digits.
func value(s string) string {
	s = digits.ReplaceAllString(s, "$1…")
	switch {
	case s == "" || strings.ContainsAny(s, " ,;\""):
		return `"` + replay.Clip(s, maxValue) + `"`
	}
	return replay.Clip(s, maxValue)
}
