package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/cima-project/cima/rpc"
)

// jrpc2 refuses an id that is in use. Here each call is answered, the second
// one after the first.
func TestSameIDs(t *testing.T) {
	s := testServer()
	s.Limits.Idle = 10 * time.Second // after which the connection ends
	gate := make(chan struct{})
	var running, most atomic.Int32
	s.waiting("Gate", func(context.Context, json.RawMessage) (any, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-gate
		running.Add(-1)
		return 0, nil
	})
	w := connect(t, start(t, s))
	const line = `{"jsonrpc":"2.0","id":"\u0041","method":"Gate"}` + "\n"
	w.send(strings.Repeat(line, 16))
	for range 15 {
		gate <- struct{}{}
		if r := w.receive(); r.Error != nil || r.ID != "A" {
			t.Fatalf("got %+v", r)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d calls with one id at a time", most.Load())
	}
	close(gate)
	if r := w.receive(); r.Error != nil {
		t.Error(r.Error)
	}
	w.ends()
}

// An answer has the same bytes whether it is written inline, by jrpc2's
// marshaller or around it.
func TestAnswersAreTheSameBytes(t *testing.T) {
	results := map[string]any{
		"Short": echoed{"a"}, "HTML": echoed{"<a&b>\u2028"}, "Null": nil, "Number": 1e21, "Text": "é\x00😀",
		"Free": strings.Repeat("x", uncharged), "Long": strings.Repeat("x", 100<<10),
	}
	errs := map[string]error{
		"Denied": rpc.Denied("<no> %q & \u2028", "x"), "Busy": rpc.RateLimited(1500, "later"), "Internal": context.DeadlineExceeded,
		"TooLarge": rpc.TooLarge(5, "long"), "Empty": &rpc.Error{Code: -5, Message: "m", Data: &rpc.ErrorData{}},
	}
	var s Server
	for name, result := range results {
		s.inline(name, func(context.Context, json.RawMessage) (any, error) { return result, nil })
	}
	for name, err := range errs {
		s.inline(name, func(context.Context, json.RawMessage) (any, error) { return nil, err })
	}
	inline := connect(t, start(t, &s))
	waiting := &Server{Methods: append([]Method(nil), s.Methods...)}
	waiting.noneInline()
	byJRPC2 := connect(t, start(t, waiting))
	for _, m := range s.Methods {
		for _, id := range []string{`1`, `-0`, `""`, `"\u0061\"<"`, `123456789012345678901234567890`} {
			line := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"a":1}}`+"\n", id, m.Name)
			inline.send(line)
			want, err := inline.in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			byJRPC2.send(line)
			if got, err := byJRPC2.in.ReadString('\n'); err != nil || got != want {
				t.Errorf("%s %s:\ninline   %.200q\nby jrpc2 %.200q (%v)", m.Name, id, want, got, err)
			}
		}
	}
}

// jrpc2 accepts each line that passes, and reads the same request from it.
func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"Echo","params":{"a":"b"}}`,
		` { "id" : "x\"\u0041" , "me\u0074hod":"A","jsonrpc":"2.0", "params":{"a":[1,2,{"b":"}"}], "c":null} } `,
		`{"jsonrpc":"2.0","id":-0,"method":"x"}`, `{"jsonrpc":"2.0","id":"","method":"x","params":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"A":2}}`, `{"jsonrpc":"2.0","id":1,"method":"x","params":{"B":9007199254740993}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","error":null}`, `[]`, `{}`, `{"jsonrpc":"2.0","id":null,"method":"x"}`,
	} {
		f.Add([]byte(line))
	}
	var r requestReader
	f.Fuzz(func(t *testing.T, line []byte) {
		request, bad := r.read(line)
		if bad != nil {
			return
		}
		parsed, err := jrpc2.ParseRequests(line)
		if err != nil || len(parsed) != 1 || parsed[0].Error != nil || parsed[0].Batch {
			t.Fatalf("%q: by jrpc2 %v, %+v", line, err, parsed)
		}
		p := parsed[0]
		if p.ID != string(request.id) || string(p.Params) != string(request.params) || p.ToRequest().IsNotification() {
			t.Fatalf("%q: id %q, params %q; jrpc2 reads %q, %q", line, request.id, request.params, p.ID, p.Params)
		}
		var method string
		if json.Unmarshal([]byte(`"`+string(request.method)+`"`), &method) != nil || p.Method != method {
			t.Fatalf("%q: method %q, jrpc2 reads %q", line, request.method, p.Method)
		}
	})
}

// jrpc2 gets the lines that passed as they were received, and in order.
func TestLinesComeAsTheyAre(t *testing.T) {
	c := &conn{framing: framing{limits: &Limits{InFlight: 4}}}
	ch := &channel{conn: c, lines: make(chan *call, 4), ended: make(chan struct{}), calls: make(map[string]*call)}
	var all sync.WaitGroup
	lines := []string{` {"id":1,"jsonrpc":"2.0" , "method":"A"}`, `{"jsonrpc":"2.0","method":"B","id":"1","params":{ }}`}
	all.Go(func() {
		for i, line := range lines {
			ch.forward(&call{id: []byte{byte('0' + i)}, line: []byte(line)})
		}
	})
	for _, line := range lines {
		if got, err := ch.Recv(); err != nil || string(got) != line {
			t.Errorf("got %q, %v", got, err)
		}
	}
	all.Wait()
}

func TestIDOf(t *testing.T) {
	for message, want := range map[string]string{
		`{"jsonrpc":"2.0","id":7,"result":1}`:            "7",
		`{"jsonrpc":"2.0","id":"a\"\\\\,","result":"x"}`: `"a\"\\\\,"`,
		`{"jsonrpc":"2.0","id":null,"error":{}}`:         "null",
		`{"jsonrpc":"2.0","id":"`:                        "",
		`x`:                                              "x",
	} {
		if got := idOf([]byte(message)); got != want {
			t.Errorf("%s: got %s, want %s", message, got, want)
		}
	}
}
