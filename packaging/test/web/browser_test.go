// Package web looks at CIMA's pages in a real browser (Debian's chromium, headless).
package web

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var (
	bin      = flag.String("bin", "../../../bin", "`DIR` with cimactl")
	webDir   = flag.String("web", "../../../.cache/web", "`DIR` with the static page, by make web")
	axePath  = flag.String("axe", "../../../.cache/axe/node_modules/axe-core/axe.min.js", "`FILE` with axe-core")
	shots    = flag.String("shots", "", "`DIR` to write screenshots to")
	testdata = flag.String("testdata", "", "`DIR` with real quotes, which are appraised too")
)

// Absolute names: a test changes its directory.
var absVectors = must(filepath.Abs(vectors))

func must(path string, err error) string {
	if err != nil {
		panic(err)
	}
	return path
}

// TestMain makes the flags' paths absolute.
func TestMain(m *testing.M) {
	flag.Parse()
	for _, path := range []*string{bin, webDir, axePath, shots, testdata} {
		if *path != "" {
			*path = must(filepath.Abs(*path))
		}
	}
	os.Exit(m.Run())
}

// browser starts one browser; each call of the result gives a tab of its own.
func browser(t *testing.T) func(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium must be there: apt-get install chromium")
		}
		t.Skip("left out: no chromium on this machine")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(time.Minute))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	first, cancelFirst := chromedp.NewContext(allocator)
	t.Cleanup(cancelFirst)
	if err := chromedp.Do(first, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) context.Context {
		t.Helper()
		tab, cancel := chromedp.NewContext(first)
		t.Cleanup(cancel)
		if err := chromedp.Do(tab, chromedp.Navigate("about:blank")); err != nil {
			t.Fatal(err)
		}
		limited, cancelLimited := context.WithTimeout(tab, 3*time.Minute)
		t.Cleanup(cancelLimited)
		return limited
	}
}

// do does steps in a tab.
func do(t *testing.T, tab context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(tab, steps...); err != nil {
		t.Fatal(err)
	}
}

// js evaluates an expression in a tab, and waits for a promise.
func js[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(tab, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%.200s: %v", expression, err)
	}
	return v
}

// look is a way to look at a page.
type look struct {
	name  string
	width int64
	dark  bool
}

var looks = []look{{"1280", 1280, false}, {"1280-dark", 1280, true}, {"360", 360, false}, {"360-dark", 360, true}}

// at looks at a page in this way.
func (l look) at(t *testing.T, tab context.Context, url string) {
	t.Helper()
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		t.Fatal(err)
	}
	var options []chromedp.EmulateViewportOption
	if l.width < 600 {
		options = append(options, chromedp.EmulateMobile)
	}
	do(t, tab, chromedp.EmulateViewport(l.width, 900, options...), chromedp.Navigate(url))
}

// shoot writes a screenshot of the whole page where screenshots are wanted.
func shoot(t *testing.T, tab context.Context, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	// What nobody scrolled to is not laid out, and would be white.
	js[bool](t, tab, `for (const d of [document, document.querySelector('iframe')?.contentDocument]) d?.styleSheets[0]?.insertRule('.chunk{content-visibility:visible!important}', d.styleSheets[0].cssRules.length); true`)
	png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(*shots, 0o755), os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// axe fails for each violation that axe-core finds. The script runs in a world of its own
// as far as a page's policy goes: the driver evaluates it, the page loads nothing.
func axe(t *testing.T, tab context.Context, what string) {
	t.Helper()
	script, err := os.ReadFile(*axePath)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Log("left out: no axe-core: npm install --prefix .cache/axe axe-core@4.14.1")
		return
	}
	js[bool](t, tab, string(script)+"; true")
	found := js[[]string](t, tab, `axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | ')))`)
	for _, violation := range found {
		t.Errorf("%s: axe: %s", what, violation)
	}
}

// cimactl runs cimactl, and returns what it prints and its exit code.
func cimactl(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(*bin, "cimactl"), args...)
	var errs strings.Builder
	c.Stderr = &errs
	text, err := c.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if errs.Len() > 0 && exit == nil {
		t.Logf("cimactl %s: %s", strings.Join(args, " "), errs.String())
	}
	return string(text), c.ProcessState.ExitCode()
}
