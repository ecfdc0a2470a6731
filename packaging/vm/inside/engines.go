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
	"strings"
	"syscall"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
)

// engine is one way to start containers.
type engine struct {
	name    string
	command []string
	run     []string // flags of its run
	runtime string   // as claims name it
	uid     uint32   // whose engine it is
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

// image makes the image where the engine hasn't got it yet: cimactl, this
// program and busybox, and nothing else.
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

func imageTar() (string, error) {
	f, err := os.CreateTemp("/var/tmp", "image-*.tar")
	if err != nil {
		return "", err
	}
	defer f.Close()
	t := tar.NewWriter(f)
	for name, from := range map[string]string{"cimactl": "/usr/bin/cimactl", "inside": "/opt/vm/inside", "bin/busybox": "/bin/busybox", "bin/sh": "/bin/busybox"} {
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
	return f.Name(), errors.Join(t.Close(), f.Chmod(0o644))
}

// start runs a program in a container of the test image with CIMA's directory,
// and returns its output and the container's id.
func (e engine) start(ctx context.Context, flags []string, program ...string) (stdout, id string, err error) {
	if err := e.image(ctx); err != nil {
		return "", "", err
	}
	dir, err := os.MkdirTemp("/var/tmp", "cid-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o777)
	cid := filepath.Join(dir, "cid")
	args := append([]string{"run", "--rm", "--network", "none", "--cidfile", cid, "-v", "/run/cima:/run/cima:ro"}, e.run...)
	args = append(append(args, flags...), imageName)
	stdout, err = finish(e.cmd(ctx, append(args, program...)...))
	text, _ := os.ReadFile(cid)
	return stdout, strings.TrimSpace(string(text)), err
}

// given is evidence that a container got about itself.
type given struct {
	id       string
	evidence *rpc.Evidence
	claims   *rpc.Claims
	result   *verify.Result
}

// prove gets evidence in a container and holds it against all there is.
func (e engine) prove(ctx context.Context, w *world, flags ...string) (*given, error) {
	nonce := newNonce()
	before, err := kernelRTMR3()
	if err != nil {
		return nil, err
	}
	out, id, err := e.start(ctx, flags, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce))
	if err != nil {
		return nil, err
	}
	now, err := kernelRTMR3()
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
	replayed, err := replay(g.evidence)
	if err != nil {
		return nil, err
	}
	quoted, err := hw.QuoteRegisters(g.evidence.Quote)
	switch {
	case err != nil:
		return nil, err
	case now == before:
		return nil, errors.New("the container's start did not extend RTMR3")
	case replayed != now || quoted.RTMR[3] != now:
		return nil, fmt.Errorf("the log replays to %v, the quote says %v, sysfs %v", replayed, quoted.RTMR[3], now)
	}
	return g, e.expect(g.id, g.claims.Container)
}

var hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// expect holds the claims against what the engine says.
func (e engine) expect(id string, c *rpc.ContainerClaims) error {
	want := id
	if e.uid != 0 {
		want = fmt.Sprintf("%d/%s", e.uid, id)
	}
	switch {
	case !hexID.MatchString(id):
		return fmt.Errorf("the engine named its container %q", id)
	case c == nil:
		return errors.New("claims name no container")
	case c.ID != want || c.Runtime != e.runtime:
		return fmt.Errorf("claims name %s of %s, not %s of %s", c.ID, c.Runtime, want, e.runtime)
	case c.Assurance.CgroupOwner != e.uid || !c.Assurance.PIDFD:
		return fmt.Errorf("assurance %+v, not of uid %d by pidfd", c.Assurance, e.uid)
	case e.uid == 0 && (c.Assurance.Metadata != "bundle+engine" || c.ImageDigest == ""):
		return fmt.Errorf("assurance %+v and image digest %q: the engine did not tell the image", c.Assurance, c.ImageDigest)
	}
	return nil
}

func (g *given) note(w *world) {
	c := g.claims.Container
	text, _ := json.Marshal(c.Assurance)
	w.note("%.12s, %d events, %s", c.ID, g.claims.Log.Count, text)
}
