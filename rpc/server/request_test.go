package server

import (
	"context"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

func TestBadLines(t *testing.T) {
	path := start(t, testServer())
	call := func(more string) string { return `{"jsonrpc":"2.0","id":1,"method":"Echo"` + more + `}` }
	for name, c := range map[string]struct {
		line string
		code rpc.Code
		says string
	}{
		"no JSON":                {"hello", rpc.CodeParseError, "must be"},
		"empty":                  {"", rpc.CodeParseError, "must be"},
		"half an object":         {`{"jsonrpc":"2.0"`, rpc.CodeParseError, "must be JSON"},
		"not UTF-8":              {call(",\"params\":{\"a\":\"\xff\"}"), rpc.CodeParseError, "UTF-8"},
		"batch":                  {"[" + call("") + "]", rpc.CodeInvalidRequest, "batches"},
		"empty batch":            {"[]", rpc.CodeInvalidRequest, "batches"},
		"no object":              {"3", rpc.CodeParseError, "must be"},
		"no id":                  {`{"jsonrpc":"2.0","method":"Echo"}`, rpc.CodeInvalidRequest, "id"},
		"null id":                {`{"jsonrpc":"2.0","id":null,"method":"Echo"}`, rpc.CodeInvalidRequest, "id"},
		"fraction id":            {`{"jsonrpc":"2.0","id":1.5,"method":"Echo"}`, rpc.CodeInvalidRequest, "id"},
		"long id":                {`{"jsonrpc":"2.0","id":"` + strings.Repeat("i", 127) + `","method":"Echo"}`, rpc.CodeInvalidRequest, "id"},
		"version":                {`{"jsonrpc":"1.0","id":1,"method":"Echo"}`, rpc.CodeInvalidRequest, "jsonrpc"},
		"no version":             {`{"id":1,"method":"Echo"}`, rpc.CodeInvalidRequest, "jsonrpc"},
		"method number":          {`{"jsonrpc":"2.0","id":1,"method":5}`, rpc.CodeInvalidRequest, "method"},
		"no method":              {`{"jsonrpc":"2.0","id":1}`, rpc.CodeInvalidRequest, "method"},
		"unknown member":         {call(`,"auth":1`), rpc.CodeInvalidRequest, "auth"},
		"response":               {`{"jsonrpc":"2.0","id":1,"result":1}`, rpc.CodeInvalidRequest, "method"},
		"twice":                  {call(`,"method":"Echo"`), rpc.CodeInvalidRequest, "method"},
		"twice by escape":        {call(`,"m\u0065thod":"Echo"`), rpc.CodeInvalidRequest, "method"},
		"variant":                {call(`,"Method":"Echo"`), rpc.CodeInvalidRequest, "Method"},
		"variant alone":          {`{"jsonrpc":"2.0","id":1,"Method":"Echo"}`, rpc.CodeInvalidRequest, "Method"},
		"params array":           {call(`,"params":[1]`), rpc.CodeInvalidParams, "not a list by position"},
		"params null":            {call(`,"params":null`), rpc.CodeInvalidRequest, "params"},
		"params twice deep":      {call(`,"params":{"a":{"b":1,"b":1}}`), rpc.CodeInvalidRequest, "b"},
		"params variant deep":    {call(`,"params":{"a":[{"nonce":1,"Nonce":1}]}`), rpc.CodeInvalidRequest, "Nonce"},
		"params Kelvin sign":     {call(",\"params\":{\"k\":1,\"\u212a\":1}"), rpc.CodeInvalidRequest, "params.\u212a"},
		"too deep":               {call(`,"params":{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`), rpc.CodeParseError, "32 deep"},
		"two on a line":          {call("") + call(""), rpc.CodeParseError, "after the value"},
		"newline in a string":    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Ec", rpc.CodeParseError, "middle of a value"},
		"byte order mark":        {"\ufeff" + call(""), rpc.CodeParseError, "must be"},
		"NaN":                    {call(`,"params":{"a":NaN}`), rpc.CodeParseError, "must be JSON"},
		"leading zero":           {call(`,"params":{"a":01}`), rpc.CodeParseError, "must be JSON"},
		"half a surrogate":       {call(`,"params":{"a":"\udc00"}`), rpc.CodeParseError, "surrogate"},
		"more than eight, twice": {call(`,"params":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"A":1}`), rpc.CodeInvalidRequest, "A"},
		"more than eight, later": {call(`,"params":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"J":1}`), rpc.CodeInvalidRequest, "J"},
		"objects too deep":       {call(`,"params":` + strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32)), rpc.CodeParseError, "32 deep"},
	} {
		w := connect(t, path)
		w.send(c.line + "\n")
		r := w.receive()
		if r.Error == nil || r.Error.Code != c.code || !strings.Contains(r.Error.Message, c.says) {
			t.Errorf("%s: got %+v, want %d %q", name, r.Error, c.code, c.says)
		}
		// nothing is lost, and the connection continues
		if r := w.ask("Echo", `{}`); r.Error != nil {
			t.Errorf("%s: afterwards: %v", name, r.Error)
		}
		w.nc.Close()
	}
}

func TestBadLinesHaveAnEnd(t *testing.T) {
	w := connect(t, start(t, testServer()))
	for range maxBad {
		w.send("x\n")
		w.receive()
	}
	w.ends()
}

func TestNonces(t *testing.T) {
	s := testServer()
	s.Methods = append(s.Methods, Define("Nonce", func(_ context.Context, p rpc.EvidenceParams) (int, error) {
		return len(p.Nonce) + 100*len(p.UserData), nil
	}))
	w := connect(t, start(t, s))
	// Text that is no base64 has no length in bytes that could be wrong.
	for _, text := range []string{"hello world", "abc", "00112233", "====", "AAAA\\n", strings.Repeat("=AAA", 30)} {
		if r := w.ask("Nonce", `{"nonce":"`+text+`"}`); r.Error == nil || !strings.Contains(r.Error.Message, "standard base64 with padding") != (text == "00112233") {
			t.Errorf("%q: %+v", text, r.Error)
		}
	}
	for params, want := range map[string]string{
		`{"nonce":"AAECAwQFBgc="}`:                                                        "8",
		`{"nonce":"` + strings.Repeat("AAAA", 21) + `AA=="}`:                              "64",
		`{"user_data":"AAAA","nonce":"AAECAwQFBgc=","format":"cima"}`:                     "308",
		`{"nonce":"AAECAwQFBgc=","user_data":"` + strings.Repeat("AAAA", 1365) + `AA=="}`: "409608",
		`{}`:                       `nonce`,
		`{"nonce":null}`:           `nonce`,
		`{"nonce":7}`:              `nonce`,
		`{"nonce":""}`:             `nonce`,
		`{"nonce":"AAECAwQFBg=="}`: `nonce`,
		`{"nonce":"` + strings.Repeat("AAAA", 21) + `AAA="}`:                              `nonce`,
		`{"nonce":"AAECAwQFBgc"}`:                                                         `nonce`,
		`{"nonce":"AAECAwQFBgd="}`:                                                        `nonce`,
		`{"nonce":"AAEC\r\nAwQFBgc="}`:                                                    `nonce`,
		`{"nonce":"AAECAwQ\u0046Bgc="}`:                                                   `nonce`,
		`{"nonce":"_-ECAwQFBgc="}`:                                                        `nonce`,
		`{"Nonce":"AAECAwQFBgc="}`:                                                        `Nonce`,
		`{"nonce":"AAECAwQFBgc=","container_id":"x"}`:                                     `container_id`,
		`{"nonce":"AAECAwQFBgc=","shared":"yes"}`:                                         `shared`,
		`{"nonce":"AAECAwQFBgc=","format":"nosuch"}`:                                      `format`,
		`{"nonce":"AAECAwQFBgc=","Format":"cima"}`:                                        `Format`,
		`{"nonce":"AAECAwQFBgc=","user_data":"` + strings.Repeat("AAAA", 1365) + `AAA="}`: `user_data`,
	} {
		r := w.ask("Nonce", params)
		if r.Error == nil {
			if string(r.Result) != want {
				t.Errorf("%s: got %s, want %s", canonical.Clip(params, 64), r.Result, want)
			}
		} else if r.Error.Code != rpc.CodeInvalidParams || r.Error.Data == nil || r.Error.Data.Member != want {
			t.Errorf("%s: got %+v, want %s", canonical.Clip(params, 64), r.Error, want)
		}
	}
}

// A method that is asked for in another spelling is proposed: CIMA 0.5 had such names.
func TestOtherSpellings(t *testing.T) {
	w := connect(t, start(t, testServer()))
	for name, want := range map[string]string{
		"echo": `no method "echo" on this socket: did you mean Echo?`, "e_c_h_o": "did you mean Echo?", "ECHO": "did you mean Echo?",
		"Ech": `no method "Ech" on this socket`, strings.Repeat("_", 61) + "echo": "on this socket",
	} {
		r := w.ask(name, `{}`)
		if r.Error == nil || r.Error.Code != rpc.CodeMethodNotFound || !strings.Contains(r.Error.Message, want) || !strings.Contains(want, "mean") && strings.Contains(r.Error.Message, "mean") {
			t.Errorf("%s: %+v, want %s", name, r.Error, want)
		}
	}
}
