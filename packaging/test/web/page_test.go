package web

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	vectors = "../../../rpc/vectors"
	at      = "2026-11-30T00:00:00Z"
)

type bundle struct {
	File  string `json:"file"`
	Nonce string `json:"nonce"`
}

func bundles(t *testing.T) (list []bundle) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(absVectors, "bundles.json"))
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil || len(list) < 20 {
		t.Fatalf("%d bundles: %v", len(list), err)
	}
	return list
}

func vector(name string) string { return filepath.Join(absVectors, "bundles", name) }

// policy writes a policy that evidence meets, and one that differs in its boot.
func policies(t *testing.T) (good, other string) {
	t.Helper()
	text, code := cimactl(t, "policy", "init", vector("container.json"), "--trust-root", vector("root.pem"), "--at", at, "--waive", "collateral,host-input-unknown")
	if code != 0 {
		t.Fatal("policy init: ", code)
	}
	changed := regexp.MustCompile(`mrtd = "..`).ReplaceAllString(text, `mrtd = "00`)
	dir := t.TempDir()
	good, other = filepath.Join(dir, "policy.toml"), filepath.Join(dir, "other.toml")
	for path, text := range map[string]string{good: text, other: changed} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return good, other
}

// TestPages: the page of each verdict says it in its first heading, has no violation of
// axe's rules in any look, fits a telephone, runs no script and loads nothing, and the
// keyboard reaches all that can be opened.
func TestPages(t *testing.T) {
	tab := browser(t)
	good, other := policies(t)
	nonce := bundles(t)[0].Nonce
	base := []string{"--nonce", nonce, "--trust-root", vector("root.pem"), "--at", at}
	dir := copied(t, good, other, vector("container.json"), vector("forged-claim.json"), vector("forged-unknown.json"), vector("beside.json"))
	t.Chdir(dir)
	for _, c := range []struct {
		name string
		args []string
		head string
	}{
		{"trusted", append([]string{"verify", "container.json", "--policy", "policy.toml"}, base...), "✓ trusted"},
		{"not-trusted", append([]string{"verify", "container.json", "--policy", "other.toml"}, base...), "✗ authentic, not trusted"},
		{"not-authentic", append([]string{"verify", "forged-claim.json", "--policy", "policy.toml"}, base...), "✗ not authentic"},
		{"malformed", append([]string{"verify", "forged-unknown.json", "--policy", "policy.toml"}, base...), "✗ malformed"},
		{"view", []string{"view", "beside.json", "--trust-root", vector("root.pem"), "--at", at}, "✗ authentic, not trusted"},
	} {
		path := filepath.Join(dir, c.name+".html")
		cimactl(t, append(c.args, "--html", path)...)
		for _, l := range looks {
			t.Run(c.name+"-"+l.name, func(t *testing.T) {
				tab := tab(t)
				l.at(t, tab, "file://"+path)
				head := js[string](t, tab, `document.querySelector('h1').textContent`)
				wide := js[int](t, tab, `document.documentElement.scrollWidth`)
				if beyond := js[[]string](t, tab, `[...document.querySelectorAll('table, .e')].filter(e => e.getBoundingClientRect().right > document.querySelector('.head').getBoundingClientRect().right + 1).map(e => e.textContent.slice(0, 80))`); len(beyond) > 0 {
					t.Errorf("it is wider than the card: %q", beyond)
				}
				scripts := js[int](t, tab, `document.scripts.length`)
				loaded := js[[]string](t, tab, `performance.getEntriesByType('resource').map(e => e.name)`)
				if head != c.head || int64(wide) > l.width || scripts != 0 || len(loaded) != 0 {
					t.Errorf("head %q, %d wide, %d scripts, loaded %q", head, wide, scripts, loaded)
				}
				shoot(t, tab, c.name+"-"+l.name)
				axe(t, tab, c.name)
			})
		}
		t.Run(c.name+"-keyboard", func(t *testing.T) {
			tab := tab(t)
			looks[0].at(t, tab, "file://"+path)
			targets := js[int](t, tab, `document.querySelectorAll('summary, input').length`)
			reached := 0
			for range targets {
				do(t, tab, chromedp.KeyEvent(kb.Tab))
				if at := js[string](t, tab, `document.activeElement.tagName`); at == "SUMMARY" || at == "INPUT" {
					reached++
				}
			}
			if reached != targets || targets == 0 {
				t.Errorf("Tab reaches %d of %d", reached, targets)
			}
		})
	}
}

// TestFilter: a filter hides events of its kind, and it works without a script.
func TestFilter(t *testing.T) {
	tab := browser(t)(t)
	path := filepath.Join(t.TempDir(), "page.html")
	cimactl(t, "view", vector("beside.json"), "--trust-root", vector("root.pem"), "--at", at, "--html", path)
	const shown = `[...document.querySelectorAll('.e')].filter(e => getComputedStyle(e).display != 'none').length`
	do(t, tab, chromedp.Navigate("file://"+path))
	all, boot := js[int](t, tab, shown), js[int](t, tab, `document.querySelectorAll('.e.boot').length`)
	do(t, tab, chromedp.Focus("#f-boot"), chromedp.KeyEvent(" "))
	if n := js[int](t, tab, shown); boot < 20 || n != all-boot {
		t.Errorf("%d of %d events are shown without the %d of the boot", n, all, boot)
	}
}

// TestMany: a page with 10,000 events has few nodes for each, and opens and scrolls. The
// times are told; the nodes are held to a bound.
func TestMany(t *testing.T) {
	tab := browser(t)(t)
	dir := t.TempDir()
	log, path := filepath.Join(dir, "runtime.cel"), filepath.Join(dir, "page.html")
	const n = 10_000
	var text strings.Builder
	for i := range n {
		body := fmt.Sprintf(`cima exec {"container":"%064x","measured":{"exec":{"path":"/usr/bin/program-%d","sha384":"%096x"}},"operation":"exec","salt":"%s="}`, 7, i, i, strings.Repeat("A", 43))
		data := append(binary.LittleEndian.AppendUint32([]byte("LEAA"), uint32(len(body))), body...)
		fmt.Fprintf(&text, `{"recnum":%d,"rtmr":3,"digests":[{"hashAlg":"sha384","digest":"%x"}],"content_type":"pcclient_std","content":{"event_type":"EV_EVENT_TAG","event_data":"%x"}}`+"\n", i, sha512.Sum384(data), data)
	}
	if err := os.WriteFile(log, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := cimactl(t, "replay", "--runtime-log", log, "--no-events", "--html", path); code != 0 {
		t.Fatal(out)
	}
	looks[0].at(t, tab, "file://"+path)
	nodes, rows := js[int](t, tab, `document.querySelectorAll('*').length`), js[int](t, tab, `document.querySelectorAll('.e').length`)
	if rows != n || nodes > 6*n+500 {
		t.Errorf("%d nodes for %d events", nodes, rows)
	}
	opened := js[float64](t, tab, `performance.getEntriesByType('navigation')[0].loadEventEnd`)
	scrolled := js[float64](t, tab, `new Promise(r => { const began = performance.now(); let n = 0; const step = () => { scrollBy(0, 5000); if (++n < 30) requestAnimationFrame(step); else r(performance.now() - began) }; step() })`)
	t.Logf("%d nodes, opened in %.0f ms, 30 scrolls in %.0f ms", nodes, opened, scrolled)
	if js[float64](t, tab, `scrollY`) < 10_000 {
		t.Error("it doesn't scroll")
	}
}
