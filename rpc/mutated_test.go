package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Fuzzers change bytes and seldom find texts that differ in meaning alone. This
// test changes members and values, as an attacker would who knows where readers
// disagree.
func TestReadersAgreeOfMutatedJSON(t *testing.T) {
	records, _ := logOf(3)
	lean, _ := json.Marshal(CCEventLog{Events: records, Total: 40, Next: 7})
	plain, _ := json.Marshal(somePage(4))
	_, bundle := testEvidence(t)
	for name, of := range map[string]struct {
		seed  string
		agree func(*testing.T, []byte) (taken bool)
	}{
		"page":        {string(lean), func(t *testing.T, b []byte) bool { return samePage(t, b) }},
		"plain page":  {string(plain), samePlainPage},
		"bundle":      {string(bundle), sameEvidence},
		"params":      {`{"nonce":"AAECAwQFBgc=","user_data":"AAAA","format":"cmw","shared":true}`, sameParams},
		"more params": {`{"domain":"a","operation":"b","content":"k<\u00e9s"}`, sameParams},
		"numbers":     {`{"start":1,"count":1024}`, sameParams},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			taken := 0
			for range 500 {
				if of.agree(t, mutated(r, of.seed)) {
					taken++
				}
			}
			if taken < 20 { // otherwise too little is compared
				t.Errorf("%d of 500 are read at all", taken)
			}
		})
	}
}

var (
	jsonTokens = regexp.MustCompile(`"(?:\\.|[^"\\])*"|[-+.0-9eE]+|[a-z]+|[{}\[\],:]`)
	oddNumbers = []string{"-0", "0", "1", "1.0", "1e2", "1E400", "01", "3", "65536", "2147483648", "4294967295", "4294967296", "9007199254740993", "18446744073709551616", "-1"}
	oddTexts   = []string{"", "<", "\u2028", "\x7f", "\ufffd", "é", "/", `\n`, `\/`, `\u0000`, `\ud800`, `\ud83d\ude00`, "=", "A", " "}
	oddValues  = []string{"null", "true", `""`, "[]", "{}", "1", strings.Repeat("[", 30) + strings.Repeat("]", 30)}
)

// mutated changes one to three things in JSON.
func mutated(r *rand.Rand, text string) []byte {
	tokens := jsonTokens.FindAllString(text, -1)
	for range 1 + r.IntN(3) {
		i := r.IntN(len(tokens))
		one := &tokens[i]
		isName := i+1 < len(tokens) && tokens[i+1] == ":"
		switch isText := (*one)[0] == '"'; {
		case isName && r.IntN(2) == 0: // the member twice, or not at all
			end := i + 2 + valueLength(tokens[i+2:])
			if member := slices.Clone(tokens[i:end]); r.IntN(2) == 0 {
				member[0] = variant(r, member[0])
				tokens = slices.Insert(tokens, i, append(member, ",")...)
			} else if tokens[i-1] == "," {
				tokens = slices.Delete(tokens, i-1, end)
			}
		case isText && (isName || r.IntN(2) == 0):
			*one = variant(r, *one)
		case strings.Contains("{}[],:", *one):
			*one += []string{" ", "\n", "\t", ""}[r.IntN(4)]
		case !isText && r.IntN(4) > 0:
			*one = oddNumbers[r.IntN(len(oddNumbers))]
		case !isName:
			*one = oddValues[r.IntN(len(oddValues))]
		}
	}
	return []byte(strings.Join(tokens, ""))
}

// valueLength is the number of tokens of the value at their start.
func valueLength(tokens []string) int {
	depth := 0
	for i, token := range tokens {
		depth += strings.Count(token[:1], "{") + strings.Count(token[:1], "[") - strings.Count(token[:1], "}") - strings.Count(token[:1], "]")
		if depth == 0 {
			return i + 1
		}
	}
	return len(tokens)
}

// variant is another spelling of a string, or a similar string.
func variant(r *rand.Rand, quoted string) string {
	at := 1 + r.IntN(len(quoted)-1) // a character, or the final quote
	switch head, tail := quoted[:at], quoted[at:]; r.IntN(6) {
	case 0:
		return strings.ToUpper(quoted)
	case 1:
		return head + string(bytes.ToUpper([]byte(tail[:1]))) + tail[1:]
	case 2:
		return strings.NewReplacer("s", "ſ", "k", "\u212a").Replace(quoted)
	case 3:
		if tail[0] != '"' && tail[0] < 0x80 {
			return head + fmt.Sprintf(`\u%04x`, tail[0]) + tail[1:]
		}
		return head + tail
	case 4:
		return head + oddTexts[r.IntN(len(oddTexts))] + tail
	}
	return quoted
}
