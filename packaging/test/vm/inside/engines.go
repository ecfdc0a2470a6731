package main

import (
	"archive/tar"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
)

// engine is one way to start containers.
type engine struct {
	name    string
	command []string
	run     []string // flags of its run
	runtime string   // the name in claims
	uid     uint32   // the user whose engine it is
	cdi     bool     // CIMA's directory by the CDI specification
	ungated bool     // cimad runs without the gate
}

var (
	dockerd   = engine{name: "docker", command: []string{"docker"}, runtime: "docker"}
	dockercru = engine{name: "docker-crun", command: []string{"docker"}, run: []string{"--runtime", "crun"}, runtime: "docker"}
	rootful   = engine{name: "podman", command: []string{"podman"}, runtime: "podman"}
	alices    = engine{name: "podman-rootless", command: []string{"systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", "podman"}, runtime: "podman", uid: 1000}
)

const imageName = "localhost/cima-vm:1"

func (e engine) cmd(ctx context.Context, args ...string) *exec.Cmd {
	all := append(e.command[:len(e.command):len(e.command)], args...)
	c := exec.CommandContext(ctx, all[0], all[1:]...)
	if e.uid != 0 {
		c.Dir = "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: e.uid, Gid: e.uid}}
		c.Env = []string{"PATH=/usr/bin:/bin", "HOME=/home/alice", fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", e.uid)}
	}
	return c
}

// runs waits until a container runs, and returns its id.
func (e engine) runs(ctx context.Context, name string) (id string, err error) {
	for range 60 {
		var out string
		if out, err = finish(e.cmd(ctx, "inspect", "-f", "{{.Id}} {{.State.Running}}", name)); err == nil && strings.Contains(out, "true") {
			id, _, _ = strings.Cut(out, " ")
			return id, nil
		}
		time.Sleep(time.Second)
	}
	return "", fmt.Errorf("the container does not run: %w", err)
}

// remove ends a container at once and removes it.
func (e engine) remove(ctx context.Context, id string) error {
	_, err := finish(e.cmd(ctx, removal(e.command[len(e.command)-1], id)...))
	return err
}

// removal is the arguments of an engine's command: podman would wait ten seconds for a
// container whose first process does not end by SIGTERM.
func removal(command, id string) []string {
	if filepath.Base(command) == "podman" {
		return []string{"rm", "-f", "-v", "-t", "0", id}
	}
	return []string{"rm", "-f", "-v", id}
}

// image makes the image if the engine doesn't have it: cimactl, this program
// and busybox, and nothing else.
func (e engine) image(ctx context.Context) error {
	if _, err := finish(e.cmd(ctx, "image", "inspect", imageName)); err == nil {
		return nil
	}
	path, err := imageTar()
	if err != nil {
		return err
	}
	defer os.Remove(path)
	_, err = finish(e.cmd(ctx, "import", path, imageName))
	return err
}

// imageTar makes an image's layer, with these files too: name, content, and so on.
func imageTar(texts ...string) (string, error) {
	f, err := os.CreateTemp("/var/tmp", "image-*.tar")
	if err != nil {
		return "", err
	}
	defer f.Close()
	t := tar.NewWriter(f)
	// Root may not write to podman's root directory, and a container_t can't override that.
	if err := t.WriteHeader(&tar.Header{Name: "made/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
		return "", err
	}
	for name, from := range map[string]string{"cimactl": "/usr/bin/cimactl", "bin/busybox": "/bin/busybox", "bin/sh": "/bin/busybox", "bin/sleep": "/bin/busybox"} {
		data, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return "", err
		}
		if _, err := t.Write(data); err != nil {
			return "", err
		}
	}
	for pair := range slices.Chunk(texts, 2) {
		if err := t.WriteHeader(&tar.Header{Name: pair[0], Mode: 0o644, Size: int64(len(pair[1]))}); err != nil {
			return "", err
		}
		if _, err := t.Write([]byte(pair[1])); err != nil {
			return "", err
		}
	}
	return f.Name(), errors.Join(t.Close(), f.Chmod(0o644))
}

// begin is the command line of a container of the test image, with CIMA's
// directory mounted.
func (e engine) begin(flags []string, program ...string) []string {
	args := []string{"run", "--network", "none", "-v", "/run/cima:/run/cima:ro"}
	if e.cdi {
		args = []string{"run", "--network", "none", "--device", cdiDevice}
	}
	args = append(args, e.run...)
	return append(append(append(args, flags...), imageName), program...)
}

// start runs a program in a container to its end, with input, and returns its
// output and the container's id. The container is removed.
func (e engine) start(ctx context.Context, input string, flags []string, program ...string) (stdout, id string, err error) {
	if err := e.image(ctx); err != nil {
		return "", "", err
	}
	dir, err := os.MkdirTemp("/var/tmp", "cid-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil { // alice writes there too
		return "", "", err
	}
	cid := filepath.Join(dir, "cid")
	// Not --rm: podman would remove the cidfile too.
	c := e.cmd(ctx, e.begin(append([]string{"-i", "--cidfile", cid}, flags...), program...)...)
	c.Stdin = strings.NewReader(input)
	stdout, err = finish(c)
	text, _ := os.ReadFile(cid)
	id = strings.TrimSpace(string(text))
	if id != "" {
		err = errors.Join(err, e.remove(ctx, id))
	}
	return stdout, id, err
}

// given is evidence that a container got about itself.
type given struct {
	id       string
	evidence *rpc.Evidence
	claims   *rpc.Claims
	result   *verify.Result
}

// prove gets evidence in a container and checks it in every way.
func (e engine) prove(ctx context.Context, w *world, flags ...string) (*given, error) {
	nonce := newNonce()
	out, id, err := e.start(ctx, hex.EncodeToString(nonce)+"\n", flags, "/cimactl", "evidence", "--nonce", "-")
	if err != nil {
		return nil, err
	}
	w.keep("evidence/"+e.name+".json", []byte(out))
	g := &given{id: id}
	if g.result, err = appraise(ctx, []byte(out), nonce); err != nil {
		return nil, err
	}
	if g.evidence, g.claims, err = rpc.DecodeEvidence([]byte(strings.TrimSpace(out))); err != nil {
		return nil, err
	}
	if err := g.agrees(ctx); err != nil {
		return nil, err
	}
	if flags == nil {
		w.launches[e.name] = append(w.launches[e.name], g.claims.Container.LaunchDigest)
	}
	return g, e.expect(g.id, g.claims.Container)
}

// agrees compares the evidence's log with the quote, both with the daemon's
// whole log, which has grown since (a container's end is an event), and that
// log with the kernel's register.
func (g *given) agrees(ctx context.Context) error {
	replayed, err := replay(g.evidence)
	if err != nil {
		return err
	}
	quoted, err := hw.QuoteRegisters(g.evidence.Quote)
	if err != nil {
		return err
	}
	if replayed != quoted.RTMR[3] {
		return fmt.Errorf("the log replays to %v, the quote has %v", replayed, quoted.RTMR[3])
	}
	var kernel hw.Digest
	var states []hw.Digest
	for ctx.Err() == nil { // until no event comes in between
		if states, err = readStates(); err != nil {
			return err
		}
		if kernel, err = kernelRTMR3(); err != nil {
			return err
		}
		if states[len(states)-1] == kernel {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	switch last := len(states) - 1; {
	case states[last] != kernel:
		return fmt.Errorf("the daemon's log replays to %v, the kernel has %v", states[last], kernel)
	case !slices.Contains(states, replayed):
		return fmt.Errorf("the evidence's log replays to %v, which RTMR3 never had", replayed)
	}
	return nil
}

var hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// expect compares the claims with the engine's facts.
func (e engine) expect(id string, c *rpc.ContainerClaims) error {
	want := id
	if e.uid != 0 {
		want = fmt.Sprintf("%d/%s", e.uid, id)
	}
	switch {
	case !hexID.MatchString(id):
		return fmt.Errorf("the engine named its container %q", id)
	case c == nil:
		return errors.New("claims must name a container")
	case c.ID != want || c.Runtime != e.runtime:
		return fmt.Errorf("claims name %s of %s, not %s of %s", c.ID, c.Runtime, want, e.runtime)
	case c.Assurance.CgroupOwner != e.uid || !c.Assurance.PIDFD:
		return fmt.Errorf("assurance %+v must be of uid %d, by pidfd", c.Assurance, e.uid)
	case e.uid == 0 && (c.Assurance.Start == "gated") == e.ungated:
		return fmt.Errorf("assurance %+v: its start must be the other of gated and observed", c.Assurance)
	case e.uid == 0 && (c.Assurance.Metadata != "bundle+engine" || c.ImageDigest == ""):
		return fmt.Errorf("assurance %+v and image digest %q: the engine did not report the image", c.Assurance, c.ImageDigest)
	}
	return nil
}

func (g *given) note(w *world) {
	c := g.claims.Container
	text, _ := json.Marshal(c.Assurance)
	w.note("%.12s, %d events, %s", c.ID, g.claims.Log.Count, text)
}
