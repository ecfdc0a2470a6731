package web

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
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
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		args []string
		head string
	}{
		{"trusted", append([]string{"verify", vector("container.json"), "--policy", good}, base...), "✓ trusted"},
		{"not-trusted", append([]string{"verify", vector("container.json"), "--policy", other}, base...), "✗ authentic, not trusted"},
		{"not-authentic", append([]string{"verify", vector("forged-claim.json"), "--policy", good}, base...), "✗ not authentic"},
		{"malformed", append([]string{"verify", vector("forged-unknown.json"), "--policy", good}, base...), "✗ malformed"},
		{"view", []string{"view", vector("beside.json"), "--trust-root", vector("root.pem"), "--at", at}, "✗ authentic, not trusted"},
	} {
		path := filepath.Join(dir, c.name+".html")
		cimactl(t, append(c.args, "--html", path)...)
		for _, l := range looks {
			t.Run(c.name+"-"+l.name, func(t *testing.T) {
				tab := tab(t)
				l.at(t, tab, "file://"+path)
				head := js[string](t, tab, `document.querySelector('h1').textContent`)
				wide := js[int](t, tab, `document.documentElement.scrollWidth`)
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
