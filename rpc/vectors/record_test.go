package vectors

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc"
)

var record = flag.Bool("record", false, "record the vectors anew, from cimad-sim built from this tree and docker")

var nonce = []byte("a nonce of the vectors', 32 long")

// asked are the requests that clients send, by name.
var asked = []struct {
	name, method string
	params       any
	inside       bool // by a container, not by a process on the host
}{
	{"algorithm", rpc.MethodGetDefaultAlgorithm, nil, false},
	{"count on the host", rpc.MethodGetMeasurementCount, nil, false},
	{"count in a container", rpc.MethodGetMeasurementCount, nil, true},
	{"RTMR0", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 0}, false},
	{"RTMR2, algorithm named", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 2, AlgoID: 12}, false},
	{"container register", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 3}, true},
	{"container register, on the host", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 3}, false},
	{"no such register", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 4}, false},
	{"no such algorithm", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 0, AlgoID: 4}, false},
	{"event log of the host", rpc.MethodGetCCEventLog, nil, false},
	{"event log of a container", rpc.MethodGetCCEventLog, nil, true},
	{"event log, a page", rpc.MethodGetCCEventLog, rpc.CCEventLogParams{Start: 4, Count: 3}, false},
	{"event log, behind its end", rpc.MethodGetCCEventLog, rpc.CCEventLogParams{Start: 4096}, false},
	{"event log, too many", rpc.MethodGetCCEventLog, rpc.CCEventLogParams{Count: 1025}, false},
	{"report", rpc.MethodGetCCReport, rpc.CCReportParams{Nonce: nonce}, true},
	{"report with user data", rpc.MethodGetCCReport, rpc.CCReportParams{Nonce: nonce, UserData: []byte{0, 1, 0xFE, 0xFF}}, false},
	{"report, nonce too short", rpc.MethodGetCCReport, rpc.CCReportParams{Nonce: []byte("short")}, false},
	{"report, shared", rpc.MethodGetCCReport, rpc.CCReportParams{Nonce: nonce, Shared: true}, true},
	{"evidence, shared", rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, Shared: true}, true},
	{"evidence", rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce}, true},
	{"evidence, user data too long", rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, UserData: make([]byte, 4097)}, false},
	{"measurements of the host", rpc.MethodGetMeasurements, nil, false},
	{"measurements in a container", rpc.MethodGetMeasurements, nil, true},
	{"who, on the host", rpc.MethodWhoAmI, nil, false},
	{"who, in a container", rpc.MethodWhoAmI, nil, true},
	{"extend", rpc.MethodExtendMeasurement, rpc.ExtendParams{Domain: "vectors", Operation: "record", Content: "{\"é\": \"\\u0000\"}"}, true},
	{"extend, domain of two words", rpc.MethodExtendMeasurement, rpc.ExtendParams{Domain: "two words", Operation: "o", Content: "c"}, true},
	{"extend, denied", rpc.MethodExtendMeasurement, rpc.ExtendParams{Domain: "d", Operation: "o", Content: "c"}, false},
	{"event log with an extend", rpc.MethodGetCCEventLog, nil, true},
	{"container register after an extend", rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 3}, true},
	{"evidence with an extend", rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce}, true},
}

// granted lets containers make events of their own, and no process on the host.
// Recording needs more quotes than a container does.
const granted = "[limits]\nquotes_burst = 1000\n[[access]]\nimage = \"*\"\nallow = [\"ExtendMeasurement\"]\n"

// raw are requests that no client sends.
var raw = []struct{ name, request string }{
	{"no such method", `{"jsonrpc":"2.0","id":1,"method":"GetQuote"}`},
	{"another spelling of a method", `{"jsonrpc":"2.0","id":1,"method":"whoami"}`},
	{"no JSON", `{"jsonrpc":"2.0","id":1,`},
	{"no version", `{"id":1,"method":"WhoAmI"}`},
	{"no id", `{"jsonrpc":"2.0","method":"WhoAmI"}`},
	{"a batch", `[{"jsonrpc":"2.0","id":1,"method":"WhoAmI"}]`},
	{"id of text", `{"jsonrpc":"2.0","id":"a","method":"WhoAmI"}`},
	{"unknown parameter", `{"jsonrpc":"2.0","id":1,"method":"GetCCMeasurement","params":{"index":0,"container_id":"x"}}`},
	{"parameter twice", `{"jsonrpc":"2.0","id":1,"method":"GetCCMeasurement","params":{"index":0,"index":1}}`},
	{"parameter in another case", `{"jsonrpc":"2.0","id":1,"method":"GetCCMeasurement","params":{"Index":0}}`},
	{"no nonce", `{"jsonrpc":"2.0","id":1,"method":"GetEvidence","params":{}}`},
	{"a form that can't be shared", `{"jsonrpc":"2.0","id":1,"method":"GetEvidence","params":{"nonce":"AAECAwQFBgc=","format":"trustee","shared":true}}`},
	{"loose base64", `{"jsonrpc":"2.0","id":1,"method":"GetEvidence","params":{"nonce":"AAECAwQFBgcICR=="}}`},
}

// TestRecord records all vectors if -record is given; otherwise it does
// nothing.
func TestRecord(t *testing.T) {
	if !*record {
		return
	}
	e := docker(t)
	s := newStage(t, granted)
	r := &recorder{t: t, s: s, e: e, image: e.image(t, "vectors-relay:1", newLayer().add(clientProgram(t), "/client"))}
	save(t, "exchanges.json", append(r.exchanges(), r.rateLimited()))
	save(t, "bundles.json", r.bundles())
}

type recorder struct {
	t     *testing.T
	s     *stage
	e     own
	image string
}

func docker(t *testing.T) own {
	t.Helper()
	for _, e := range engines(t) {
		if e.Name == "docker" {
			return e
		}
	}
	t.Fatal("recording needs docker")
	return own{}
}

// ask sends lines from a container, or from this process.
func (r *recorder) ask(inContainer bool, lines ...string) []string {
	r.t.Helper()
	if inContainer {
		out := r.s.in(r.e, strings.Join(lines, "\n")+"\n", "-e", inside+"=relay", r.image, "/client")
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	var replies []string
	for _, line := range lines {
		reply, err := exchange(r.s.socket(), line+"\n")
		if err != nil {
			r.t.Fatalf("%.100s: %v", line, err)
		}
		replies = append(replies, strings.TrimSuffix(reply, "\n"))
	}
	return replies
}

func requestLine(t *testing.T, method string, params any) (line string, text json.RawMessage) {
	t.Helper()
	text = json.RawMessage("{}")
	if params != nil {
		var err error
		if text, err = json.Marshal(params); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, text), text
}

func (r *recorder) exchanges() (all []Exchange) {
	r.t.Helper()
	var lines []string // lines of a container, sent by one container
	for _, a := range asked {
		if line, _ := requestLine(r.t, a.method, a.params); a.inside {
			lines = append(lines, line)
		}
	}
	within := r.ask(true, lines...)
	for _, a := range asked {
		line, params := requestLine(r.t, a.method, a.params)
		x := Exchange{Name: a.name, Method: a.method, Params: params, Request: line}
		if a.inside {
			x.Reply, within = within[0], within[1:]
		} else {
			x.Reply = r.ask(false, line)[0]
		}
		all = append(all, x)
	}
	for _, x := range raw {
		all = append(all, Exchange{Name: x.name, Request: x.request, Reply: r.ask(false, x.request)[0]})
	}
	return all
}

// rateLimited repeats a request until the daemon refuses it.
func (r *recorder) rateLimited() Exchange {
	r.t.Helper()
	s := newStage(r.t, "[limits]\nquotes_per_minute = 1\n")
	params := rpc.CCReportParams{Nonce: nonce}
	line, text := requestLine(r.t, rpc.MethodGetCCReport, params)
	for range 100 {
		reply, err := exchange(s.socket(), line+"\n")
		if err != nil {
			r.t.Fatal(err)
		}
		if strings.Contains(reply, "-32003") {
			return Exchange{Name: "rate limited", Method: rpc.MethodGetCCReport, Params: text, Request: line, Reply: strings.TrimSuffix(reply, "\n")}
		}
	}
	r.t.Fatal("the daemon never limited the rate")
	return Exchange{}
}

// bundles records evidence and makes forgeries.
func (r *recorder) bundles() (all []Bundle) {
	r.t.Helper()
	os.RemoveAll("bundles")
	if err := os.Mkdir("bundles", 0o755); err != nil {
		r.t.Fatal(err)
	}
	root, err := os.ReadFile(r.s.path("td/root.pem"))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile("bundles/root.pem", root, 0o644); err != nil {
		r.t.Fatal(err)
	}
	line, _ := requestLine(r.t, rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce})
	with, _ := requestLine(r.t, rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, UserData: []byte("user data, é\x00\xFF")})
	evidence := func(reply string) []byte {
		var answer struct{ Result json.RawMessage }
		if err := json.Unmarshal([]byte(reply), &answer); err != nil || answer.Result == nil {
			r.t.Fatalf("no evidence: %s", reply)
		}
		return answer.Result
	}
	host := evidence(r.ask(false, line)[0])
	container := evidence(r.ask(true, with)[0])
	r.s.in(r.e, line+"\n", "--cap-add", "SYS_ADMIN", "-e", inside+"=relay", r.image, "/client")
	beside := evidence(r.ask(true, line)[0])
	shared := evidence(r.shared())
	relaunched := evidence(r.relaunched(line))
	r.s.restart()
	after := evidence(r.ask(true, line)[0])
	r.s.config = "isolation = \"private\"\n" + r.s.config
	r.s.restart()
	private := evidence(r.ask(true, line)[0])
	for _, g := range []struct {
		file, about string
		bundle      []byte
	}{
		{"host", "a process in no container", host},
		{"container", "a container, with user data", container},
		{"beside", "a container beside others, one of which has power", beside},
		{"shared", "a process whose quote others share", shared},
		{"relaunched", "a container that was stopped and started again", relaunched},
		{"private", "a container of a daemon that shows nothing of others", private},
		{"restarted", "a container after the daemon was started again", after},
	} {
		b := expected(r.t, g.bundle)
		b.File, b.About = "bundles/"+g.file+".json", g.about
		all = append(all, b)
		write(r.t, b.File, g.bundle)
	}
	return append(all, forgeries(r.t, container, beside, shared, private)...)
}

// shared is evidence whose quote an odd number of callers share, at least
// three. Concurrent requests are repeated until that happens.
func (r *recorder) shared() string {
	r.t.Helper()
	for range 200 {
		replies := make(chan string, 5)
		for i := range cap(replies) {
			go func() {
				line, _ := requestLine(r.t, rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, UserData: []byte{byte(i)}, Shared: true})
				reply, _ := exchange(r.s.socket(), line+"\n")
				replies <- strings.TrimSuffix(reply, "\n")
			}()
		}
		for range cap(replies) {
			reply := <-replies
			var answer struct{ Result rpc.Evidence }
			if json.Unmarshal([]byte(reply), &answer) == nil && answer.Result.Shared != nil &&
				answer.Result.Shared.Size >= 3 && len(answer.Result.Shared.Path) > 1 {
				return reply
			}
		}
	}
	r.t.Fatal("no three callers shared a quote")
	return ""
}

// relaunched is the reply to a container that runs a second time.
func (r *recorder) relaunched(line string) string {
	r.t.Helper()
	id := strings.TrimSpace(r.e.do(r.t, "", "create", "-i", "--network", "none", "-v", filepath.Dir(r.s.socket())+":/run/cima:ro",
		"-e", inside+"=relay", r.image, "/client"))
	defer r.e.do(r.t, "", "rm", "-f", id)
	r.e.do(r.t, line+"\n", "start", "-a", "-i", id)
	return r.e.do(r.t, line+"\n", "start", "-a", "-i", id)
}

func save(t *testing.T, name string, v any) {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	write(t, name, b.Bytes())
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// clientProgram is this test as a static program, for an image that holds
// nothing else.
func clientProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client")
	output(t, append(os.Environ(), "CGO_ENABLED=0"), "", "go", "test", "-c", "-ldflags", "-s -w", "-o", path, ".")
	return path
}
