// Program pack puts the verifier's page together: one file of HTML that has its scripts,
// its style and the WebAssembly in it, named by the SHA-256 of its bytes.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	wasm := flag.String("wasm", "", "`FILE` of WebAssembly")
	exec := flag.String("exec", "", "Go's wasm_exec.js, a `FILE`")
	from := flag.String("from", "packaging/web", "`DIR` of the page's sources")
	style := flag.String("style", "hw/verify/page/page.css", "`FILE`: the style of results")
	version := flag.String("version", "unknown", "the verifier's version")
	to := flag.String("to", "", "`DIR` to write to: nothing else is left in it")
	bundle := flag.String("sample", "rpc/vectors/bundles/container.json", "`FILE` of evidence that the verifier tries itself on")
	root := flag.String("sample-root", "rpc/vectors/bundles/root.pem", "`FILE`: the sample's root of trust")
	most := flag.Int("most", 0, "the most bytes that the file may have")
	flag.Parse()
	tried, err := sample(*bundle, *root, *version)
	name, size := "", 0
	if err == nil {
		name, size, err = pack(*wasm, *exec, *from, *style, *version, *to, tried)
	}
	if err == nil && size > *most {
		err = fmt.Errorf("%s has %d bytes, and must have at most %d: what was linked that wasn't before?", name, size, *most)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d bytes, at most %d\n", name, size, *most)
}

func pack(wasm, exec, from, style, version, to, sample string) (name string, size int, err error) {
	read := func(path string) string {
		text, failed := os.ReadFile(path)
		err = errors.Join(err, failed)
		return string(text)
	}
	script, css := read(filepath.Join(from, "page.js")), read(filepath.Join(from, "page.css"))
	worker := read(exec) + read(filepath.Join(from, "worker.js"))
	packed := squeezed(read(wasm))
	page := read(filepath.Join(from, "page.html"))
	result := read(style)
	for name, text := range map[string]string{"page.js": script, "the worker": worker, "page.css": css, "the version": version, "the sample": sample} {
		if strings.Contains(strings.ToLower(text), "</script") || strings.Contains(text, "<!--") || strings.Contains(text, "</style") {
			err = errors.Join(err, fmt.Errorf("%s would end the element that it stands in", name))
		}
	}
	if err != nil {
		return "", 0, err
	}
	whole := strings.NewReplacer("@SCRIPT@", hashed(script), "@STYLE@", hashed(css), "@RESULT_STYLE@", hashed(result), "@CSS@", css,
		"@VERSION@", version, "@WORKER@", worker, "@WASM@", packed, "@SAMPLE@", sample, "@JS@", script).Replace(page)
	sum := sha256.Sum256([]byte(whole))
	name = fmt.Sprintf("cima-verify-%.16x.html", sum[:8])
	err = errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, name), []byte(whole), 0o644),
		os.WriteFile(filepath.Join(to, "SHA256SUMS"), fmt.Appendf(nil, "%x  %s\n", sum, name), 0o644))
	return name, len(whole), err
}

// squeezed is gzip in base64. It has no time in it: the same bytes give the same text.
func squeezed(text string) string {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// hashed is the source of a content security policy that allows a text.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
