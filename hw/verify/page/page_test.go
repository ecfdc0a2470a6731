package page

import (
	"bytes"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/hw/verify/verifytest"
)

func write(t *testing.T, s Shown) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// markup is a page without its texts: tags with their attributes, and the values of those
// that a browser acts on.
func markup(t *testing.T, text string) (tags []string, texts string) {
	t.Helper()
	var said strings.Builder
	z := html.NewTokenizer(strings.NewReader(text))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return tags, said.String()
		case html.TextToken:
			said.Write(z.Text())
		case html.StartTagToken, html.SelfClosingTagToken:
			tag := z.Token()
			form := tag.Data
			for _, a := range tag.Attr {
				form += " " + a.Key
				switch {
				case strings.HasPrefix(a.Key, "on"), slices.Contains([]string{"src", "href", "style", "srcdoc", "action", "xlink:href"}, a.Key):
					t.Errorf("<%s> has %s=%q", tag.Data, a.Key, a.Val)
				case a.Key == "class" || a.Key == "id" || a.Key == "content" || a.Key == "http-equiv":
					form += "=" + a.Val
				}
			}
			if slices.Contains([]string{"script", "iframe", "object", "embed", "img", "a", "link", "base", "form"}, tag.Data) {
				t.Errorf("there is a <%s>", tag.Data)
			}
			tags = append(tags, form)
		default:
			tags = append(tags, "/"+z.Token().Data)
		}
	}
}

// hostile are texts that want to be more than text.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`</style><script>alert(1)</script>`,
	`</title></svg></pre></details><iframe srcdoc="x">`,
	`'--></code><a href="javascript:alert(1)">`,
	"{{.Style}}\u202e\u2066\x1b[2J\x00\ufeff",
	"<!--", "]]>", `&lt;script&gt;`,
}

// TestHostileNames: whatever an image, an argument, a file or a policy calls itself, the
// page has the markup that it has of harmless names, and no character that can't be seen.
func TestHostileNames(t *testing.T) {
	pages := func(name string) []string {
		td := verifytest.Boot(t, sim.Config{})
		nonce := []byte("a nonce of 32 bytes for the page")
		// JSON escapes what JSON must: the log has the text itself.
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		inside := strings.Trim(string(quoted), `"`)
		bundle := td.Evidence(td.Launch("1", "i"+inside, "a"+inside), nonce, nil)
		r := td.Appraise(bundle, nonce, nil)
		if r.Claims == nil {
			t.Fatalf("evidence with %q can't be read: %s", name, r.Reason)
		}
		first := write(t, OfBundle(name, bundle, r))

		made := &verify.Result{
			Verdict: verify.NotTrusted, Reason: verify.StepTCB + ": " + name, Hint: name, Verifier: name,
			Root: &verify.Root{Kind: name, Name: name}, TCB: &dcap.TCBLevel{Status: name, Date: name},
			Policy: []policy.Source{{File: name, Name: name, SignedBy: name}}, Boot: &policy.Boot{Name: name}, Container: &policy.Container{Name: name},
			Steps:     []verify.Step{{Name: verify.StepTCB, Outcome: verify.Fail, Detail: name, Compared: []verify.Comparison{{What: name, Want: name, Got: name + "x"}}}},
			Proved:    []verify.Statement{{Code: name, Text: name}},
			NotProved: []verify.Statement{{Code: name, Text: name, Stands: true}, {Code: name, Text: name, Waived: true}},
			Registers: &verify.Registers{},
			Events:    []verify.Event{{Operation: name, Container: name, Measured: map[string]any{name: name}}, {Operation: "launch", Measured: name}},
		}
		logs := []replay.Event{{Log: "boot", Type: name, Register: name, Detail: name}, {Log: "runtime", Type: name, Detail: name}}
		second := write(t, Shown{title: name, result: made, logs: logs})
		third := write(t, Shown{title: name, logs: logs, head: head{State: failed, Words: name, Mark: name, Under: name}, registers: []register{{Name: name, Held: name, Logs: name, Note: name, State: failed}}})
		return []string{first, second, third}
	}
	harmless := pages("harmless")
	for _, name := range hostile {
		for i, got := range pages(name) {
			want, _ := markup(t, harmless[i])
			tags, texts := markup(t, got)
			malformed := i == 0 && strings.Contains(name, "\x00") // a log has no such characters
			if !malformed && !slices.Equal(want, tags) {
				t.Errorf("page %d of %q has other markup than that of a harmless name", i, name)
			}
			if visible := strings.Trim(name, "\u202e\u2066\x1b\x00\ufeff"); i == 0 && strings.HasPrefix(name, "<script") && !strings.Contains(texts, visible) && !strings.Contains(texts, html.EscapeString(visible)) {
				t.Errorf("page %d doesn't show %q", i, visible)
			}
			if strings.ContainsAny(got, "\u202e\u2066\x1b\x00\ufeff") {
				t.Errorf("page %d of %q has characters that can't be seen", i, name)
			}
		}
	}
}

// TestPolicyOfContent: a page may style itself, and nothing else. Its style is the one
// whose hash its policy has.
func TestPolicyOfContent(t *testing.T) {
	got := write(t, Shown{title: "t"})
	want := `<meta http-equiv="Content-Security-Policy" content="` + strings.NewReplacer("'", "&#39;", "+", "&#43;").Replace(contentPolicy()) + `">`
	if !strings.Contains(got, want) || !strings.HasPrefix(contentPolicy(), "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%s is not in\n%.900s", want, got)
	}
	if strings.Count(got, "<style>") != 1 || strings.Contains(got, "unsafe") || strings.Contains(got, "ZgotmplZ") {
		t.Errorf("the style is not as it was written:\n%.900s", got)
	}
}

// TestVectors: each recorded bundle has a page that says its verdict, every step, every
// register and every event that is shown.
func TestVectors(t *testing.T) {
	vectors := filepath.Join("..", "..", "..", "rpc", "vectors")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(vectors, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var bundles []struct {
		File  string `json:"file"`
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(read("bundles.json"), &bundles); err != nil {
		t.Fatal(err)
	}
	roots, err := dcap.ParseRoots(read("bundles/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		nonce, err := hex.DecodeString(b.Nonce)
		if err != nil {
			t.Fatal(err)
		}
		opts := verify.Options{TrustRoots: roots, At: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)}
		opts.Nonce = nonce
		bundle := read(b.File)
		r, err := verify.Appraise(t.Context(), bundle, opts)
		if err != nil {
			t.Fatal(err)
		}
		_, texts := markup(t, write(t, OfBundle(b.File, bundle, r)))
		wants := []string{string(r.Verdict), b.File}
		for _, s := range r.Steps {
			wants = append(wants, s.Name)
		}
		if r.Registers != nil {
			wants = append(wants, r.Registers.MRTD.String(), r.Registers.RTMR[3].String())
		}
		for _, e := range r.Events {
			wants = append(wants, e.Digest.String())
		}
		if r.Verdict == verify.Malformed {
			wants = append(wants, "nothing of it is proved")
		}
		// That nobody knows the platform's patches is no fault of the quote.
		must := map[string]state{"Quote": proved, "Platform": unproved}
		for _, l := range chainOf(r) {
			if want, known := must[l.Name]; known && r.Verdict == verify.Authentic && l.State != want {
				t.Errorf("%s: the link %s is %s, must be %s", b.File, l.Name, l.State, want)
			}
		}
		for _, want := range wants {
			if !strings.Contains(texts, want) {
				t.Errorf("%s: %q is not on its page", b.File, want)
			}
		}
	}
}

// TestManyEvents: the nodes of a page grow by a few for each event, digests of others are
// one row for each run, and rows are laid out by the hundred.
func TestManyEvents(t *testing.T) {
	r := &verify.Result{Verdict: verify.NotTrusted}
	for i := range 10_000 {
		e := verify.Event{Position: i, Operation: "exec", Container: "c", Measured: map[string]any{"exec": map[string]any{"path": fmt.Sprintf("/usr/bin/%d", i)}}, Judged: true}
		if i >= 5_000 {
			e = verify.Event{Position: i, Judged: true}
		}
		r.Events = append(r.Events, e)
	}
	tags, _ := markup(t, write(t, Shown{title: "many", result: r}))
	opened, chunks := 0, 0
	for _, tag := range tags {
		if !strings.HasPrefix(tag, "/") {
			opened++
		}
		if tag == "ul class=chunk" {
			chunks++
		}
	}
	if opened > 5_000*8+200 || chunks != 51 {
		t.Errorf("%d elements in %d chunks", opened, chunks)
	}
}

// TestLogsWithoutResult: bare logs say that nobody vouches for them.
func TestLogsWithoutResult(t *testing.T) {
	log := []byte(`{"recnum":0,"rtmr":3,"digests":[{"hashAlg":"sha384","digest":"` + strings.Repeat("ab", 48) + `"}]}`)
	if _, err := OfLogs("junk", replay.Files{BootLog: log}); err == nil {
		t.Error("a runtime log passes for a boot log")
	}
	td := verifytest.Boot(t, sim.Config{})
	nonce := []byte("a nonce of 32 bytes for the page")
	bundle := td.Evidence(td.Launch("1", "i", "a"), nonce, nil)
	var ev struct {
		Quote   []byte `json:"quote"`
		BootLog []byte `json:"boot_log"`
	}
	if err := json.Unmarshal(bundle, &ev); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		files replay.Files
		head  state
		words string
		rows  []state
	}{
		{replay.Files{BootLog: ev.BootLog}, unproved, "replayed, and not verified", []state{unproved, unproved, unproved, unproved}},
		{replay.Files{BootLog: ev.BootLog, Quote: ev.Quote}, unproved, "the logs agree with the registers", []state{unproved, proved, proved, proved, unproved}},
	} {
		s, err := OfLogs("log", c.files)
		if err != nil {
			t.Fatal(err)
		}
		var rows []state
		for _, r := range s.registers {
			rows = append(rows, r.State)
		}
		if s.head.State != c.head || s.head.Words != c.words || !slices.Equal(rows, c.rows) || !strings.Contains(s.head.Under, "nobody vouches") {
			t.Errorf("%+v, registers %v", s.head, rows)
		}
		if got := write(t, s); !strings.Contains(got, "nobody vouches") || strings.Contains(got, "What was judged") {
			t.Errorf("the page says\n%.1500s", got)
		}
	}
}

// TestMeasurement: of an SNP guest the launch measurement is the one register.
func TestMeasurement(t *testing.T) {
	g := &guest.Guest{}
	g.Measurement[0] = 0xab
	list := registersOf(&verify.Result{Guest: g}, nil)
	if len(list) != 1 || list[0].Name != "MEASUREMENT" || list[0].Held != g.Measurement.String() || list[0].State != unproved {
		t.Errorf("registers %+v", list)
	}
	if list = registersOf(&verify.Result{Guest: g, Boot: &policy.Boot{}}, nil); list[0].State != proved {
		t.Errorf("registers of a boot that the policy knows %+v", list)
	}
}
