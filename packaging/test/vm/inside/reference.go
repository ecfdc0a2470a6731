package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify"
)

// referenceRun starts the container whose policy was made before this system booted
// (packaging/test/vm/run, which predicts this very line).
var referenceRun = []string{"docker", "run", "-i", "--rm", "--network", "none", "-v", "/run/cima:/run/cima:ro",
	"localhost/reference:1", "/cimactl", "evidence", "--nonce", "-"}

// referenced checks that evidence of a container is trusted, the first time, by a
// policy that was made from files alone, and that with one byte changed in a file
// the policy refuses it and names what differs.
func referenced(ctx context.Context, w *world) error {
	if _, err := command(ctx, "docker", "load", "-i", "reference/image.tar"); err != nil {
		return err
	}
	nonce := hex.EncodeToString(newNonce())
	c := exec.CommandContext(ctx, referenceRun[0], referenceRun[1:]...)
	c.Stdin = strings.NewReader(nonce + "\n")
	bundle, err := finish(c)
	if err != nil {
		return err
	}
	w.keep("reference/evidence.json", []byte(bundle))
	var errs []error
	cases, err := filepath.Glob("reference/*.toml")
	if err != nil || len(cases) != 7 {
		return fmt.Errorf("7 policies are wanted, there are %d: %w", len(cases), err)
	}
	for _, policy := range cases {
		name := strings.TrimSuffix(filepath.Base(policy), ".toml")
		result, err := judgedBy(ctx, bundle, nonce, policy)
		if err == nil {
			err = asWanted(name, result)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	w.note("1 policy trusts it, %d refuse it", len(cases)-1)
	return errors.Join(errs...)
}

// asWanted compares a verdict with what the policy's name asks for: the step that fails.
func asWanted(name string, r *verify.Result) error {
	step := map[string]string{"policy": "", "kernel": "boot-values", "initrd": "boot-values", "line": "boot-values",
		"firmware": "boot-values", "image": "caller-values", "arguments": "caller-values"}[name]
	failed := failedSteps(r)
	if step == "" && r.Verdict == verify.Trusted {
		return nil
	}
	if step == "" || r.Verdict == verify.Trusted {
		return fmt.Errorf("verdict %q: %s; %v", r.Verdict, r.Reason, failed)
	}
	if !slices.ContainsFunc(failed, func(s string) bool { return strings.HasPrefix(s, step+": fail") }) {
		return fmt.Errorf("step %s must fail: %v", step, failed)
	}
	fmt.Printf("     %s: %s\n", name, r.Reason)
	return nil
}

func judgedBy(ctx context.Context, bundle, nonce, policy string) (*verify.Result, error) {
	c := exec.CommandContext(ctx, "cimactl", "verify", "-", "--nonce", nonce, "--trust-root", rootPEM, "--policy", policy, "--json")
	c.Stdin = strings.NewReader(bundle)
	out, err := finish(c)
	var result verify.Result
	if json.Unmarshal([]byte(out), &result) != nil {
		return nil, fmt.Errorf("cimactl verify printed no result: %w", err)
	}
	return &result, nil
}

// writeImage writes an image of cimactl alone, as docker save does, before any
// engine has seen it.
func writeImage(path, cimactl string) error {
	program, err := os.ReadFile(cimactl)
	if err != nil {
		return err
	}
	layer, err := archive(map[string][]byte{"cimactl": program})
	if err != nil {
		return err
	}
	id := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Env": []string{"PATH=/"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(id[:])}},
	})
	if err != nil {
		return err
	}
	name := sha256.Sum256(config)
	file := hex.EncodeToString(name[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": file, "RepoTags": []string{"localhost/reference:1"}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	whole, err := archive(map[string][]byte{file: config, "layer.tar": layer, "manifest.json": manifest})
	if err != nil {
		return err
	}
	return os.WriteFile(path, whole, 0o644)
}

func archive(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for name, data := range files {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := t.Write(data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), t.Close()
}
