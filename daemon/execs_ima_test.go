package daemon

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// kernelsIMA is a directory like the kernel's, with a log of template
// ima-cgpath.
type kernelsIMA struct {
	t     *testing.T
	dir   string
	count int
}

func newKernelsIMA(t *testing.T) *kernelsIMA {
	k := &kernelsIMA{t: t, dir: t.TempDir()}
	k.add("/", "boot_aggregate", "sha384:"+strings.Repeat("00", 47)+"01")
	return k
}

// add appends an entry; one without a digest is a violation.
func (k *kernelsIMA) add(cgroup, name, digest string) {
	k.t.Helper()
	field := digest
	if digest == "" {
		field = "sha384:" + strings.Repeat("0", 96)
	}
	algorithm, hex, _ := strings.Cut(field, ":")
	var raw []byte
	if _, err := fmt.Sscanf(hex, "%x", &raw); err != nil {
		k.t.Fatal(err)
	}
	var data []byte
	for _, f := range []string{"/usr/bin/containerd-shim-runc-v2\x00", cgroup + "\x00", algorithm + ":\x00" + string(raw), name + "\x00"} {
		data = binary.LittleEndian.AppendUint32(data, uint32(len(f)))
		data = append(data, f...)
	}
	hash := sha512.Sum384(data)
	if digest == "" {
		hash = [48]byte{}
	}
	k.append("binary_runtime_measurements", fmt.Sprintf(" 2 %x ima-cgpath %s %s %s %s\n", hash, "/usr/bin/containerd-shim-runc-v2", cgroup, field, name))
	k.count++
	// in place, because the kernel's file is never empty in between
	f, err := os.OpenFile(filepath.Join(k.dir, "runtime_measurements_count"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(fmt.Appendln(nil, k.count), 0); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernelsIMA) append(name, text string) {
	k.t.Helper()
	f, err := os.OpenFile(filepath.Join(k.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		k.t.Fatal(err)
	}
}

// imaExecsFixture is a gate whose exec events come from a kernel's IMA log.
func imaExecsFixture(t *testing.T, k *kernelsIMA) *fixture {
	t.Helper()
	f := dockerFixture(t)
	f.imaDir = k.dir
	f.regate(func(c *config.Config) {
		c.Gate.Mode, c.Exec.Mode, c.Exec.Source = config.GateOn, config.ExecMeasure, config.ExecByIMA
	})
	f.gateStands()
	return f
}

func (f *fixture) cgroupOf(id string) string {
	f.t.Helper()
	records, err := f.daemon.store().List(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, rec := range records {
		if rec.ID == id {
			return rec.CgroupPath
		}
	}
	f.t.Fatalf("no record of %s", id)
	return ""
}

// The kernel's entries of a container's cgroup are in the container's log, in
// order, before any evidence, and in no other container's log.
func TestExecsFromIMA(t *testing.T) {
	k := newKernelsIMA(t)
	f := imaExecsFixture(t, k)
	id, other := f.shell(), f.shell()
	digest := func(n byte) string { return rpc.Digest{n}.String() }
	k.add(f.cgroupOf(id), "/bin/busybox", "sha384:"+digest(1))
	k.add("/system.slice/ssh.service", "/usr/sbin/sshd", "sha384:"+digest(2))
	k.add(f.cgroupOf(other), "/bin/other", "sha384:"+digest(3))
	k.add(f.cgroupOf(id)+"/nested", "/bin/nested", "sha384:"+digest(4))
	k.add(f.cgroupOf(id), "/bin/old", "sha256:"+digest(5)[:64])
	k.add(f.cgroupOf(id), "/bin/open", "")
	k.add(f.cgroupOf(id)+"0", "/bin/nested", "sha384:"+digest(6))
	k.add(f.cgroupOf(id), "/bin/again", "sha384:"+digest(1))
	bundle := evidenceFrom(t, id)
	r := f.wantAuthentic(bundle)
	texts := func(id string) (all []string) {
		for _, e := range f.execsOf(id) {
			text := e.Path + " " + e.Digest
			if e.SHA384 != nil {
				text += e.SHA384.String()
			}
			all = append(all, fmt.Sprint(text, e.Writable, e.Missed))
		}
		return all
	}
	want := []string{
		"/bin/busybox " + digest(1) + "false", "/bin/nested " + digest(4) + "false",
		"/bin/old sha256:" + digest(5)[:64] + "false", "/bin/open true",
	}
	if got := texts(id); !slices.Equal(got, want) {
		t.Errorf("logged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := texts(other); !slices.Equal(got, []string{"/bin/other " + digest(3) + "false"}) {
		t.Errorf("the other's: %q", got)
	}
	if text, _, err := verify.InitPolicy([]*verify.Result{r}, nil); err != nil || !strings.Contains(string(text), digest(4)) {
		t.Errorf("the policy made from it lists no nested program: %v", err)
	}

	// A register that is requested alone covers what was executed by then.
	k.add(f.cgroupOf(id), "/bin/late", "sha384:"+digest(10))
	want = append(want, "/bin/late "+digest(10)+"false")
	register := docker(t, "exec", id, "/bin/cimactl", "call", "GetCCMeasurement", `{"index":3}`)
	if got := texts(id); !slices.Equal(got, want) {
		t.Errorf("after a call:\n%s", strings.Join(got, "\n"))
	}
	if got := claimsOf(t, evidenceFrom(t, id)).Container.Register.String(); !strings.Contains(register, got) {
		t.Errorf("the register is %s; evidence has %s", register, got)
	}

	f.regate(func(*config.Config) {})
	f.wantAuthentic(evidenceFrom(t, id))
	if got := texts(id); !slices.Equal(got, want) {
		t.Errorf("after a restart of the daemon:\n%s", strings.Join(got, "\n"))
	}

	k.add(f.cgroupOf(id), "/bin/last", "sha384:"+digest(7))
	docker(t, "restart", "-t", "0", id)
	k.add(f.cgroupOf(id), "/bin/first", "sha384:"+digest(8))
	bundle = evidenceFrom(t, id)
	f.wantAuthentic(bundle)
	events, err := f.daemon.ledger.Events(id)
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, e := range events {
		if e.Operation == "exec" {
			own = append(own, decode[logs.ExecBody](t, e.Body()).Path)
		}
	}
	if !slices.Equal(own, []string{"/bin/first"}) {
		t.Errorf("the new instance executed %v", own)
	}
	if all := texts(id); !slices.Contains(all, "/bin/last "+digest(7)+"false") {
		t.Errorf("the last exec of the instance before is lost: %v", all)
	}

	// An entry that can't be read may have been any program.
	k.append("binary_runtime_measurements", "no entry\n")
	k.add("/", "/sbin/init", "sha384:"+digest(9))
	f.wantAuthentic(evidenceFrom(t, id))
	if all := texts(id); !strings.HasSuffix(all[len(all)-1], "the IMA log could not be followed") {
		t.Errorf("an entry that can't be read: %v", all)
	}
}
