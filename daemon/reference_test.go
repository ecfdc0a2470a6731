package daemon

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/boot/boottest"
)

// booting are the files of a boot, and what cimactl is told of them.
type booting struct{ cimactl, dir, line string }

func (b booting) flags() []string {
	in := func(name string) string { return filepath.Join(b.dir, name) }
	return []string{"predict", "boot", "--firmware", in("OVMF.fd"), "--memory", "2G", "--secure-boot", "off", "--kernel", in("vmlinuz"), "--initrd", in("initrd"), "--line", b.line, "--root", "initrd", "--host-input", "none"}
}

func (b booting) run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(b.cimactl, args...).Output()
	if err != nil {
		t.Fatalf("cimactl %q: %v: %s", args, err, err.(*exec.ExitError).Stderr)
	}
	return out
}

// td is a simulated TD that boots these files. What stays open is something.
func (b booting) td(t *testing.T) sim.Config {
	t.Helper()
	var r struct {
		MRTD   []hw.Digest `json:"mrtd"`
		Events []struct {
			Register string `json:"register"`
			Kind     string `json:"kind"`
			Digest   string `json:"digest"`
		} `json:"events"`
	}
	if err := json.Unmarshal(b.run(t, append(b.flags(), "--json")...), &r, json.RejectUnknownMembers(false)); err != nil {
		t.Fatal(err)
	}
	var events []boot.Event
	for _, e := range r.Events {
		digest := sha512.Sum384([]byte(e.Kind))
		if known, err := hex.DecodeString(e.Digest); err == nil && len(known) == 48 {
			digest = [48]byte(known)
		}
		events = append(events, boot.Event{MR: uint32(e.Register[len("rtmr")]-'0') + 1, Type: boot.EvIPL, Digest: digest, Data: []byte(e.Kind)})
	}
	return sim.Config{MRTD: r.MRTD[0], BootLog: boot.Encode(events)}
}

// A policy is written before anything runs: of the boot's files, of the image, of the
// container's line. The container that is started afterwards is trusted at once. A byte
// of any of them that differs is refused, and named.
func TestComputedPolicyInDocker(t *testing.T) {
	needDocker(t)
	dir := t.TempDir()
	b := booting{cimactl: filepath.Join(dir, "cimactl"), dir: dir, line: "ro console=ttyS0"}
	build := exec.Command("go", "build", "-o", b.cimactl, "../rpc/cimactl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image := filepath.Join(dir, "image.tar")
	docker(t, "save", "-o", image, testImage)
	for name, data := range map[string][]byte{"OVMF.fd": boottest.Firmware(boottest.Parts()), "vmlinuz": boottest.Kernel("kernel"), "initrd": []byte("initrd")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := []string{"run", "--rm", "-i", "--network", "none", "-v", "/run/cima:/run/cima:ro", testImage, "/cimactl", "evidence", "--nonce", "-"}
	predict := []string{"predict", "--run", "docker " + strings.Join(command, " "), "--image", image, "--lsm", lsm()}
	launch, meaning := strings.TrimSpace(string(b.run(t, predict...))), filepath.Join(dir, "launch.json")
	if err := os.WriteFile(meaning, b.run(t, append(predict, "--json")...), 0o600); err != nil {
		t.Fatal(err)
	}
	text := string(b.run(t, append(b.flags(), "--policy", "--name", "computed")...)) +
		string(b.run(t, "policy", "add-image", "app", image)) +
		"[[container]]\nname = \"app\"\nimage = \"app\"\nlaunch = \"" + launch + "\"\n" +
		// What no file says: the platform's patch level, what the host's devices are, and
		// that /run/cima is a mount of the test's own here.
		"waive = [\"collateral\", \"firmware-varies\", \"mounts\"]\n" +
		"[[reference]]\nfile = \"" + meaning + "\"\n"

	appraise := func(t *testing.T, now booting, command []string) *verify.Result {
		t.Helper()
		on := func(c *config.Config) {
			c.Gate.Mode, c.Gate.Deadline, c.Exec.Deadline = config.GateOn, config.Duration(time.Minute), config.Duration(time.Minute)
		}
		f := startFixtureOn(t, now.td(t), nil, on)
		f.usualPlace()
		f.gateStands()
		run := exec.Command("docker", command...)
		run.Stdin = strings.NewReader(hex.EncodeToString(nonce) + "\n")
		var stderr bytes.Buffer
		run.Stderr = &stderr
		evidence, err := run.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, &stderr)
		}
		return f.appraise(evidence, f.parse(text))
	}
	t.Run("the same", func(t *testing.T) {
		if r := appraise(t, b, command); r.Verdict != verify.Trusted {
			t.Errorf("%s: %s\n%s", r.Verdict, r.Reason, text)
		}
	})
	for name, c := range map[string]struct {
		change func(*testing.T, *booting, []string) []string
		want   string
	}{
		"kernel": {func(t *testing.T, now *booting, c []string) []string {
			now.swap(t, "vmlinuz", boottest.Kernel("kerneL"))
			return c
		}, "RTMR1 is"},
		"initrd": {func(t *testing.T, now *booting, c []string) []string {
			now.swap(t, "initrd", []byte("initrD"))
			return c
		}, "RTMR2 is"},
		"line": {func(t *testing.T, now *booting, c []string) []string { now.line = "rO console=ttyS0"; return c }, "command line"},
		"image": {func(t *testing.T, _ *booting, c []string) []string {
			made := docker(t, "create", testImage, "/cimactl")
			docker(t, "commit", "--change", "LABEL another=image", made, otherImage)
			docker(t, "rm", made)
			return strings.Split(strings.ReplaceAll(strings.Join(c, "\x00"), testImage, otherImage), "\x00")
		}, "image"},
		"arguments": {func(t *testing.T, now *booting, c []string) []string { return append(c, "--shared") }, "arguments"},
	} {
		t.Run("another "+name, func(t *testing.T) {
			now := b
			now.dir = t.TempDir()
			if err := os.CopyFS(now.dir, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			line := c.change(t, &now, append([]string(nil), command...))
			r := appraise(t, now, line)
			said := r.Reason
			for _, s := range r.Failed() {
				said += "; " + s.Detail
			}
			if r.Verdict == verify.Trusted || !strings.Contains(said, c.want) {
				t.Errorf("%s: %s", r.Verdict, said)
			}
		})
	}
}

const otherImage = "cima-another-test:1"

func (b booting) swap(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
