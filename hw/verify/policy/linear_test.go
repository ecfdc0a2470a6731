package policy

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/match"
)

// alternatives is a policy with n containers of one image, each with a list of programs,
// of which none fits: all must be looked at.
func alternatives(t testing.TB, n int) *Policy {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "cima_policy = 2\n[image.i]\ndigests = %q\n", sha256Of("11"))
	for i := range n {
		fmt.Fprintf(&b, "[[container]]\nname=\"c\"\nimage=\"i\"\nmatch.asked.user.uid=%d\n", i)
	}
	return parse(t, b.String())
}

// manyExecs is a caller with n programs, and a long list of variables.
func manyExecs(n int) Caller {
	var environment []string
	for i := range 2000 {
		environment = append(environment, fmt.Sprintf(`{"name":"V%05d"}`, i))
	}
	c := callerOf(sha256Of("11"), `{"environment":[`+strings.Join(environment, ",")+`],"user":{"uid":1000000}}`)
	for i := range n {
		c.Execs = append(c.Execs, Exec{SHA384: fmt.Sprintf("%096x", i+1)})
	}
	return c
}

// steps is what judging costs.
func steps(t testing.TB, p *Policy, c Caller) int {
	t.Helper()
	j := &callerJudge{p: p, c: c, at: december}
	if err := j.read(); err != nil {
		t.Fatal(err)
	}
	covered := j.covered()
	for _, n := range j.candidates() {
		j.judge(p.containers[n], covered[n])
	}
	return j.work.Done()
}

// The work grows with alternatives and events, and not with their product.
func TestWorkIsLinear(t *testing.T) {
	small, large := alternatives(t, 1000), alternatives(t, 10000)
	few, many := manyExecs(1000), manyExecs(10000)
	one, ten := steps(t, small, few), steps(t, large, many)
	t.Logf("1,000 × 1,000: %d steps; 10,000 × 10,000: %d steps", one, ten)
	if ten > 11*one || one == 0 {
		t.Errorf("%d steps for ten times of what takes %d", ten, one)
	}
	if found, err := large.JudgeContainer(many, nil, december); err != nil || found.Known != nil || found.Others != 9999 || len(found.Differ) > 500 {
		t.Errorf("%+v %v", found, err)
	}
}

// Lists of programs are looked up by what ran, once each.
func TestProgramsAreLookedUp(t *testing.T) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "cima_policy = 2\n[image.i]\ndigests = %q\n", sha256Of("11"))
	for range 100 {
		fmt.Fprintf(&b, "[[container]]\nname=\"c\"\nimage=\"i\"\nexecs=[")
		for i := range 50 {
			fmt.Fprintf(&b, "\"%096x\",", i+1)
		}
		b.WriteString("]\n")
	}
	p, c := parse(t, b.String()), manyExecs(10000)
	if n := steps(t, p, c); n > 2*100*50+100*200 {
		t.Errorf("%d steps", n)
	}
	c.Execs = c.Execs[:50]
	if found := judge(t, p, c); found.Known == nil {
		t.Errorf("%+v", found)
	}
}

// What would be a product ends in an error, and no verdict.
func TestTooMuchWork(t *testing.T) {
	var mounts, only []string
	for i := range 5000 {
		mounts = append(mounts, fmt.Sprintf(`{"destination":"/m","type":"t%d"}`, i))
		only = append(only, fmt.Sprintf(`{destination="/m",type="u%d"}`, i))
	}
	p := parse(t, fmt.Sprintf("cima_policy = 2\n[[container]]\nname=\"c\"\nany=true\nmatch.asked.mounts={only=[%s,{type={prefix=\"t\"}}]}\n", strings.Join(only, ",")))
	c := callerOf("", `{"mounts":[`+strings.Join(mounts, ",")+`]}`)
	if found, err := p.JudgeContainer(c, nil, december); err == nil {
		t.Errorf("%+v", found)
	}
}

func TestManySystems(t *testing.T) {
	p, log := manySystems(t, 1000)
	found, err := p.JudgeBoot(Booted{MRTD: digest("a1"), Log: logOf(t, 2, log...)}, december)
	if err != nil || found.Known != nil || len(found.Differ) != 1 {
		t.Errorf("%+v %v", found, err)
	}
}

// manySystems is a policy of n systems, each a sequence with a hole, and a log of n events
// that fits none.
func manySystems(t testing.TB, n int) (*Policy, []hw.Digest) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "cima_policy = 2\n[firmware.f]\nmrtd = %q\nrtmr0 = \"zero\"\n", hexOf("a1"))
	var names []string
	for i := range n {
		fmt.Fprintf(&b, "[system.s%d]\nroot=\"not covered\"\nhost_input=\"none\"\nrtmr1=\"zero\"\nrtmr2=[\"*a…\",\"%096x\",\"*b\"]\n", i, i+1)
		names = append(names, fmt.Sprintf("%q", fmt.Sprint("s", i)))
	}
	fmt.Fprintf(&b, "[[boot]]\nname=\"b\"\nfirmware=\"f\"\nsystem=[%s]\n", strings.Join(names, ","))
	var log []hw.Digest
	for i := range n {
		log = append(log, digestOf(fmt.Sprintf("%096x", i+1)))
	}
	return parse(t, b.String()), append(log, hw.Digest{1}, hw.Digest{2})
}

func BenchmarkContainers(b *testing.B) {
	p, c := alternatives(b, 10000), manyExecs(10000)
	for b.Loop() {
		if _, err := p.JudgeContainer(c, nil, december); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBoots(b *testing.B) {
	p, digests := manySystems(b, 5000)
	log := logOf(b, 2, digests...)
	for b.Loop() {
		if _, err := p.JudgeBoot(Booted{MRTD: digest("a1"), Log: log}, december); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "cima_policy = 2\n[image.i]\ndigests = %q\n", sha256Of("11"))
	for i := range 10000 {
		fmt.Fprintf(&text, "[[container]]\nname=\"c\"\nimage=\"i\"\nmatch.asked.user.uid=%d\n", i)
	}
	for b.Loop() {
		if _, err := Parse("p", text.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzContainer: whatever a log shows, judging it ends, and an alternative that wants a
// fact is met by that fact alone.
func FuzzContainer(f *testing.F) {
	p := parse(f, "cima_policy = 2\n[[container]]\nname=\"c\"\nany=true\nmatch.asked={user.uid=7,mounts={only=[{destination={prefix=\"/a\"}}]},arguments=[\"x\",{any=[\"y\",1]}],hooks={absent=true}}\n")
	f.Add(`{"asked":{"arguments":["x","y"],"user":{"uid":7}},"cgroup_owner":0,"source":"bundle"}`, `{"absent":"x"}`)
	f.Add(`{"cgroup_owner":0,"source":"bundle"}`, `{"absent":"x"}`) // two facts differ, and no more
	f.Fuzz(func(t *testing.T, launch, image string) {
		c := Caller{Launch: jsontext.Value(launch), Image: jsontext.Value(image), Claims: jsontext.Value("{}")}
		found, err := p.JudgeContainer(c, nil, december)
		if err != nil || found.Known == nil {
			return
		}
		root, err := match.ReadObject(c.Launch)
		if err != nil {
			t.Fatal(err)
		}
		if uid := match.NewDocument(root, match.NewMeter(0)).Get("asked", "user", "uid"); uid != 7.0 && uid != "7" {
			t.Errorf("%v fits in %s", uid, launch)
		}
	})
}
