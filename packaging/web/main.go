//go:build js && wasm

// Program web is the verifier in a page: the same code as `cimactl verify`, as WebAssembly
// in a worker. It gets files and gives the result as JSON, byte for byte that of
// `cimactl verify --json`, and as a page. `make web` builds it.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"syscall/js"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/page"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/rpc/cimactl/instead"
)

var version = "unknown" // set by the linker

// file is one that the user gave.
type file struct {
	name string
	data []byte
}

// asked is all that the user gave.
type asked struct {
	evidence, quote, boot, ima, runtime, root, userData *file
	policies, collateral                                []file
	nonce, at                                           string
}

func main() {
	js.Global().Set("appraise", js.FuncOf(func(_ js.Value, args []js.Value) any {
		text, shown, err := appraise(read(args[0]))
		if err != nil {
			return js.ValueOf(map[string]any{"error": err.Error()})
		}
		return js.ValueOf(map[string]any{"json": text, "html": shown})
	}))
	js.Global().Call("started")
	select {}
}

// read reads the object that the page sends: files by their role.
func read(from js.Value) asked {
	a := asked{nonce: from.Get("nonce").String(), at: from.Get("at").String()}
	for name, to := range map[string]**file{
		"evidence": &a.evidence, "quote": &a.quote, "boot": &a.boot, "ima": &a.ima, "runtime": &a.runtime, "root": &a.root, "userData": &a.userData,
	} {
		if list := files(from.Get(name)); len(list) > 0 {
			*to = &list[0]
		}
	}
	a.policies, a.collateral = files(from.Get("policy")), files(from.Get("collateral"))
	return a
}

func files(list js.Value) (read []file) {
	for i := range list.Length() {
		one := list.Index(i)
		data := make([]byte, one.Get("data").Get("length").Int())
		js.CopyBytesToGo(data, one.Get("data"))
		read = append(read, file{one.Get("name").String(), data})
	}
	return read
}

func appraise(a asked) (result, shown string, err error) {
	opts, err := a.options()
	if err != nil {
		return "", "", err
	}
	r, s, err := a.judge(opts)
	if err != nil {
		return "", "", err
	}
	// As `cimactl verify --json` writes it.
	text, err := json.Marshal(r, jsontext.PreserveRawStrings(true), json.Deterministic(true), json.FormatNilSliceAsNull(true),
		json.FormatNilMapAsNull(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return "", "", err
	}
	var b bytes.Buffer
	err = s.Write(&b)
	return string(text) + "\n", b.String(), err
}

func (a *asked) judge(opts verify.Options) (*verify.Result, page.Shown, error) {
	ctx := context.Background()
	switch {
	case a.evidence != nil && a.quote != nil:
		return nil, page.Shown{}, fmt.Errorf("give evidence or a quote: evidence has its own quote and logs")
	case a.evidence != nil:
		r, err := verify.Appraise(ctx, a.evidence.data, opts)
		if err == nil && r.Verdict == verify.Malformed {
			if hint := instead.OfEvidence(a.evidence.name, a.evidence.data); hint != "" {
				r.Hint = hint
			}
		}
		return r, page.OfBundle(a.evidence.name, a.evidence.data, r), err
	case a.quote != nil:
		logs := replay.Files{Quote: a.quote.data, BootLog: a.boot.bytes(), IMALog: a.ima.bytes(), RuntimeLog: a.runtime.bytes()}
		r, err := verify.AppraiseQuote(ctx, logs, opts)
		return r, page.OfQuote(a.quote.name, logs, r), err
	}
	return nil, page.Shown{}, fmt.Errorf("give a file of evidence")
}

// bytes are a file's, nil where there is none.
func (f *file) bytes() []byte {
	if f == nil {
		return nil
	}
	return f.data
}

func (a *asked) options() (opts verify.Options, err error) {
	opts.Verifier = "cimactl " + version
	if a.root != nil {
		if opts.TrustRoots, err = dcap.ParseRoots(a.root.data); err != nil {
			return opts, fmt.Errorf("%s must hold a certificate: %w", a.root.name, err)
		}
	}
	if a.nonce != "" {
		if opts.Nonce, err = hex.DecodeString(a.nonce); err != nil {
			return opts, errors.New("the nonce must be hex, of 16 to 128 digits: what was sent in base64 must be converted")
		}
	}
	if a.userData != nil {
		opts.UserData = &a.userData.data
	}
	if a.at != "" {
		if opts.At, err = time.Parse(time.RFC3339, a.at); err != nil {
			return opts, fmt.Errorf("the time must be like 2026-01-31T12:00:00Z: %w", err)
		}
	}
	if len(a.collateral) > 0 {
		opts.Collateral, opts.AMD = documents(a.collateral), documents(a.collateral)
	}
	for i, p := range a.policies {
		switch i {
		case 0:
			opts.Policy, err = policy.Parse(p.name, p.data)
		case 1:
			err = opts.Policy.Revoke(p.name, p.data)
		default:
			err = fmt.Errorf("there must be at most two policies: one, and a file of revocations")
		}
		if err != nil {
			return opts, err
		}
	}
	return opts, nil
}

// documents are files of collateral, by name.
type documents []file

// Get reads a document, as dcap.Dir reads a directory.
func (d documents) Get(_ context.Context, doc dcap.Document, of string) (body, chain []byte, err error) {
	name := dcap.FileName(doc, of)
	if body, err = d.find(name); err != nil || doc == dcap.RootCRL {
		return body, nil, err
	}
	if chain, err = d.find(name + ".chain"); err != nil || strings.HasPrefix(string(chain), "-----BEGIN CERTIFICATE") {
		return body, chain, err
	}
	plain, err := url.QueryUnescape(strings.TrimSpace(string(chain)))
	return body, []byte(plain), err
}

// List reads a list of AMD's, as snp.Dir reads a directory.
func (d documents) List(_ context.Context, line snp.Line, vlek bool) ([]byte, error) {
	return d.find(snp.FileName(line, vlek))
}

// Certificate reads the certificate of a key, and what stands above it, if that is there.
func (d documents) Certificate(_ context.Context, _ *snp.Report, k snp.Key) (leaf, above []byte, err error) {
	if leaf, err = d.find(k.FileName()); err != nil {
		return nil, nil, &snp.UnknownKeyError{Key: k}
	}
	above, _ = d.find(k.FileName() + ".chain")
	return leaf, above, nil
}

func (d documents) find(name string) ([]byte, error) {
	for _, f := range d {
		if f.name == name {
			return f.data, nil
		}
	}
	return nil, &dcap.FileError{Err: &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}}
}
