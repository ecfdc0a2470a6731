package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// verifier opens the static page, and waits for the worker.
func verifier(t *testing.T, tab context.Context) {
	t.Helper()
	looks[0].at(t, tab, "file://"+built(t))
	ready(t, tab)
}

// built is the page that make web built.
func built(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(*webDir, "cima-verify-*.html"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q in %s: make web builds one page", found, *webDir)
	}
	path, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOwnTest: a verifier that comes to another result for its sample than the program that
// built the page is not used.
func TestOwnTest(t *testing.T) {
	tab := browser(t)(t)
	page, err := os.ReadFile(built(t))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`id="sample">([^<]+)<`).FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no sample")
	}
	text, err := base64.StdEncoding.DecodeString(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(text, []byte(`"verdict\":\"trusted`), []byte(`"verdict\":\"Trusted`), 1)
	if bytes.Equal(text, changed) {
		t.Fatalf("the sample's result is not trusted: %.300s", text)
	}
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, bytes.Replace(page, m[1], []byte(base64.StdEncoding.EncodeToString(changed)), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	looks[0].at(t, tab, "file://"+path)
	if _, err := chromedp.Run(tab, chromedp.Poll[bool](`document.body.dataset.done == '1'`)); err != nil {
		t.Fatal(err)
	}
	got := appraised(t, tab, map[string][]string{"evidence": {vector("container.json")}, "root": {vector("root.pem")}}, bundles(t)[0].Nonce)
	if !strings.Contains(got, "the verifier failed its own test") || js[bool](t, tab, `'ready' in document.body.dataset`) {
		t.Errorf("it says %.300s", got)
	}
}

func ready(t *testing.T, tab context.Context) {
	t.Helper()
	do(t, tab, chromedp.WaitReady("body[data-ready]"))
}

// appraised gives files to the page, as a user does, and returns the JSON that it shows.
func appraised(t *testing.T, tab context.Context, files map[string][]string, nonce string) string {
	t.Helper()
	before := js[string](t, tab, `field('form').reset(); document.body.dataset.done || '0'`)
	steps := []chromedp.Action[chromedp.Void]{}
	for id, paths := range files {
		var whole []string
		for _, path := range paths {
			abs, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			whole = append(whole, abs)
		}
		steps = append(steps, chromedp.SetUploadFiles("#"+id, whole))
	}
	do(t, tab, steps...)
	js[bool](t, tab, fmt.Sprintf(`field('nonce').value = %q; field('at').value = %q; true`, nonce, at))
	do(t, tab, chromedp.Click("#go"))
	if _, err := chromedp.Run(tab, chromedp.Poll[bool](`(document.body.dataset.done || '0') != '`+before+`'`)); err != nil {
		t.Fatalf("%v: %s", err, js[string](t, tab, `field('status').textContent`))
	}
	if js[bool](t, tab, `field('out').hidden`) {
		return "error: " + js[string](t, tab, `field('status').textContent`)
	}
	return js[string](t, tab, `field('json').textContent`)
}

// copied are files in one directory, without their folders: results have the names that
// the command line was given.
func copied(t *testing.T, paths ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSameResult: for every vector, with a policy and without, the page gives the bytes
// that cimactl verify --json prints.
func TestSameResult(t *testing.T) {
	tab := browser(t)(t)
	verifier(t, tab)
	good, other := policies(t)
	dir := copied(t, good, other)
	t.Chdir(dir)
	verdicts := make(map[string]int)
	for _, b := range bundles(t) {
		path := filepath.Join(absVectors, b.File)
		for _, p := range []string{"", "policy.toml", "other.toml"} {
			files := map[string][]string{"evidence": {path}, "root": {filepath.Join(absVectors, "bundles", "root.pem")}}
			args := []string{"verify", path, "--nonce", b.Nonce, "--at", at, "--trust-root", files["root"][0], "--json"}
			if p != "" {
				files["policy"] = []string{filepath.Join(dir, p)}
				args = append(args, "--policy", p)
			}
			want, _ := cimactl(t, args...)
			got := appraised(t, tab, files, b.Nonce)
			if got != want {
				t.Errorf("%s with %q: the page says\n%.600s\ncimactl says\n%.600s", b.File, p, got, want)
			}
			verdict, _, _ := strings.Cut(strings.TrimPrefix(got, `{"verdict":"`), `"`)
			verdicts[verdict]++
		}
	}
	for _, v := range []string{"trusted", "authentic, not trusted", "not authentic", "malformed"} {
		if verdicts[v] == 0 {
			t.Errorf("nothing is %s: %v", v, verdicts)
		}
	}
}

// TestRealQuotes: the same for quotes of other systems, with their logs.
func TestRealQuotes(t *testing.T) {
	if *testdata == "" {
		t.Skip("left out: no -testdata DIR with real quotes")
	}
	tab := browser(t)(t)
	verifier(t, tab)
	n := 0
	err := filepath.WalkDir(*testdata, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(e.Name(), "quote") || !strings.HasSuffix(e.Name(), ".bin") && !strings.HasSuffix(e.Name(), ".dat") {
			return err
		}
		files, args := map[string][]string{"quote": {path}}, []string{"verify", "--quote", path, "--at", at, "--json"}
		if log := filepath.Join(filepath.Dir(path), "ccel.bin"); exists(log) {
			files["boot"] = []string{log}
			args = append(args, "--boot-log", log)
		}
		want, code := cimactl(t, args...)
		if code == 1 {
			return nil
		}
		n++
		if got := appraised(t, tab, files, ""); got != want {
			t.Errorf("%s: the page says\n%.600s\ncimactl says\n%.600s", path, got, want)
		}
		return nil
	})
	if err != nil || n < 3 {
		t.Errorf("%d quotes: %v", n, err)
	}
	t.Logf("%d real quotes", n)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestVerifierPage: the page fits, has no violation of axe's rules before and after an
// appraisal, can connect to nothing, and is as fast as it says.
func TestVerifierPage(t *testing.T) {
	newTab := browser(t)
	good, _ := policies(t)
	nonce := bundles(t)[0].Nonce
	files := map[string][]string{"evidence": {vector("container.json")}, "root": {vector("root.pem")}, "policy": {good}}
	for _, l := range looks {
		t.Run(l.name, func(t *testing.T) {
			tab := newTab(t)
			verifier(t, tab)
			url := js[string](t, tab, `location.href`)
			l.at(t, tab, url)
			ready(t, tab)
			axe(t, tab, "the form")
			shoot(t, tab, "verifier-"+l.name)
			if got := appraised(t, tab, files, nonce); !strings.HasPrefix(got, `{"verdict":"trusted"`) {
				t.Fatalf("%.300s", got)
			}
			if wide := js[int](t, tab, `document.documentElement.scrollWidth`); int64(wide) > l.width {
				t.Errorf("%d wide", wide)
			}
			axe(t, tab, "the form and a result")
			shoot(t, tab, "verifier-trusted-"+l.name)
			head := js[string](t, tab, `field('result').contentDocument.querySelector('h1').textContent`)
			if head != "✓ trusted" {
				t.Errorf("the frame's heading is %q", head)
			}
			if l == looks[0] {
				t.Logf("ready after %s ms, its first appraisal in %s ms, %d nodes", js[string](t, tab, `document.body.dataset.ready`),
					js[string](t, tab, `document.body.dataset.took`), js[int](t, tab, `field('result').contentDocument.querySelectorAll('*').length`))
			}
		})
	}
	t.Run("no connection", func(t *testing.T) {
		tab := newTab(t)
		verifier(t, tab)
		for _, tries := range []string{
			`fetch('https://example.org/').then(() => 'connected', e => 'refused')`,
			`new Promise(r => { const x = new XMLHttpRequest(); x.onload = () => r('connected'); x.onerror = () => r('refused'); try { x.open('GET', 'http://127.0.0.1:9/'); x.send() } catch (e) { r('refused') } })`,
			`new Promise(r => { const i = new Image(); i.onload = () => r('connected'); i.onerror = () => r('refused'); i.src = 'https://example.org/x.png' })`,
			`new Promise(r => { document.addEventListener('securitypolicyviolation', () => r('refused'), {once: true}); try { new WebSocket('ws://127.0.0.1:9/') } catch (e) { r('refused') } })`,
			`new Promise(r => { document.addEventListener('securitypolicyviolation', () => r('refused'), {once: true}); const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); setTimeout(() => r(window.ran ? 'connected' : 'refused'), 200) })`,
		} {
			if got := js[string](t, tab, tries); got != "refused" {
				t.Errorf("%s: %s", tries, got)
			}
		}
	})
}
