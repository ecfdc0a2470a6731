package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestMatch checks every known form of a container's cgroup against the rule,
// and unusual ones after them.
func TestMatch(t *testing.T) {
	const user = "/user.slice/user-1000.slice/user@1000.service/user.slice/"
	type test struct {
		declared []string // id, path
		cgroups  []hierarchy
		want     string // id; "" for none
		in       string // hierarchy to look up
		refusal  string
	}
	named := func(path string, below ...string) test {
		return test{[]string{idA, path}, lines("", path+strings.Join(below, "")), idA, "", ""}
	}
	unknown := func(path string) test {
		return test{nil, lines("", path), "", "", "no root-owned record declares"}
	}
	other := []string{idA, "/docker/" + idA, idB, "/docker/" + idB}
	for name, test := range map[string]test{
		"docker systemd":         named("/system.slice/docker-" + idA + ".scope"),
		"docker parent slice":    named("/my.slice/my-own.slice/docker-" + idA + ".scope"),
		"docker cgroupfs":        named("/docker/" + idA),
		"docker parent":          named("/batch/" + idA),
		"podman":                 named("/machine.slice/libpod-"+idA+".scope", "/container"),
		"podman, systemd inside": named("/machine.slice/libpod-"+idA+".scope", "/system.slice/x.service"),
		"podman cgroupfs":        named("/libpod_parent/libpod-" + idA),
		"podman rootless":        named(user + "libpod-" + idA + ".scope"),
		"podman pod":             named("/libpod_parent/" + idB + "/libpod-" + idA),
		"quadlet split":          named("/system.slice/web.service/libpod-payload-" + idA),
		"containerd":             named("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-" + idA + ".scope"),
		"cri-o":                  named("/kubepods.slice/kubepods-pod1_2.slice/crio-" + idA + ".scope"),
		"cri-o in its sandbox":   named("/kubepods.slice/kubepods-pod1_2.slice/crio-" + idB + ".scope/crio-" + idA + ".scope"),
		"kubelet cgroupfs":       named("/kubepods/burstable/pod1-2/" + idA),
		"nerdctl":                named("/system.slice/nerdctl-" + idA + ".scope"),
		"no id in the path":      named("/my/own/place", "/below"),

		"docker unknown":     unknown("/docker/" + idA),
		"podman unknown":     unknown("/machine.slice/libpod-" + idA + ".scope/container"),
		"payload unknown":    unknown("/system.slice/web.service/libpod-payload-" + idA),
		"pod only":           unknown("/libpod_parent/" + idA + "/conmon"),
		"in a user's slice":  unknown(user + "docker-" + idA + ".scope"),
		"id but deep":        unknown("/a/b/c/" + idA + "/d/e"),
		"conmon":             {nil, lines("", "/machine.slice/libpod-conmon-"+idA+".scope"), "", "", ""},
		"session":            {other, lines("", "/user.slice/user-0.slice/session-1.scope"), "", "", ""},
		"root":               {other, lines("", "/"), "", "", ""},
		"the engine":         {other, lines("", "/system.slice/docker.service"), "", "", ""},
		"parent of all":      {other, lines("", "/docker"), "", "", ""},
		"prefix of the name": {[]string{idA, "/docker/x"}, lines("", "/docker/xy"), "", "", ""},

		"parent is another": {
			[]string{idA, "/docker/" + idA, idB, "/docker/" + idA + "/" + idB},
			lines("", "/docker/"+idA+"/"+idB), idB, "", ""},
		"parent is another, not yet on record": {other,
			lines("", "/docker/"+idA+"/"+idC), "", "", "docker in docker"},
		"a user's own engine": {other,
			lines("", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-"+idC+".scope"), "", "", "rootless.conf"},
		"just started": {other, lines("", "/docker/"+idC), "", "", "was just started, try again"},
		"forged below": {other,
			lines("", "/docker/"+idA+"/x/docker-"+idB+".scope"), "", "", "no root-owned record declares"},
		"forged path below": {other,
			lines("", "/docker/"+idA+"/docker/"+idB), "", "", "no root-owned record declares"},

		"v1 all": {other, lines("memory", "/docker/"+idA, "cpu,cpuacct", "/docker/"+idA, "name=systemd", "/docker/"+idA),
			idA, "name=systemd", ""},
		"v1 without systemd": {other, lines("memory", "/docker/"+idA, "cpu", "/docker/"+idA, "pids", "/docker/"+idA),
			idA, "cpu", ""},
		"hybrid": {other, lines("memory", "/docker/"+idA, "name=systemd", "/docker/"+idA, "", "/docker/"+idA),
			idA, "", ""},
		"hybrid, exec'd by the systemd driver": {other,
			lines("memory", "/docker/"+idA, "name=systemd", "/docker/"+idA, "", "/system.slice/containerd.service"),
			idA, "name=systemd", ""},
		"in one only": {other, lines("memory", "/docker/"+idA, "cpu", "/", "", "/"), idA, "memory", ""},
		"one moved": {other, lines("memory", "/docker/"+idA, "cpu", "/docker/"+idB, "", "/docker/"+idA),
			"", "", "name different containers"},
		"unified moved": {other, lines("memory", "/docker/"+idA, "", "/docker/"+idB),
			"", "", "name different containers"},
		"one unknown": {other, lines("memory", "/docker/"+idC, "", "/docker/"+idA),
			"", "", "hierarchy memory holds a container id"},
		"parent in one": {
			[]string{idA, "/docker/" + idA, idB, "/docker/" + idA + "/" + idB},
			lines("memory", "/docker/"+idA, "", "/docker/"+idA+"/"+idB), "", "", "name different containers"},
	} {
		t.Run(name, func(t *testing.T) {
			var declared []Container
			for i := 0; i < len(test.declared); i += 2 {
				declared = append(declared, at(test.declared[i], test.declared[i+1]))
			}
			r := rule{records: declare(declared...)}
			m, err := r.match(context.Background(), test.cgroups)
			if test.refusal != "" {
				wantRefusal(t, err, test.refusal)
				for _, id := range []string{idA, idB, idC} {
					if strings.Contains(err.Error(), id) {
						t.Errorf("the refusal tells ids: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatalf("refused: %v (%v)", err, cause(err))
			}
			if m.found != (test.want != "") || m.container.ID != test.want || m.in.controllers != test.in {
				t.Errorf("got %+v, want %q in %q", m, test.want, test.in)
			}
		})
	}
}

func TestMatchAsksForEveryPrefix(t *testing.T) {
	var asked []string
	r := rule{records: recordsFunc(func(path string) (Container, bool, error) {
		asked = append(asked, path)
		return Container{}, false, nil
	})}
	if _, err := r.match(context.Background(), lines("", "/a/bc/d", "cpu", "/")); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(asked); got != "[/a /a/bc /a/bc/d]" {
		t.Error(got)
	}
}

// perHierarchy are records of containers whose cgroups differ from hierarchy to
// hierarchy.
type perHierarchy map[place]string

func (r perHierarchy) Declared(_ context.Context, hierarchy, path string) (Container, bool, error) {
	id, ok := r[place{hierarchy, path}]
	c := at(id, path)
	c.Hierarchy = hierarchy
	return c, ok, nil
}

// An answer that holds in each hierarchy is asked for once, found or not.
func TestMatchAsksOnce(t *testing.T) {
	asked := 0
	r := rule{records: recordsFunc(func(path string) (Container, bool, error) {
		asked++
		return at(idA, path), path == "/p/"+idA, nil
	})}
	path := "/p/" + idA
	m, err := r.match(context.Background(), lines("memory", path, "name=systemd", path, "cpu", path))
	if err != nil || m.container.ID != idA || asked != 2 {
		t.Errorf("%+v, %v, asked %d times, must be 2", m, err, asked)
	}
}

// A path counts in the hierarchy in which the record has it, and only there. The
// container is looked up in the first hierarchy, at the path that it has there.
func TestMatchByHierarchy(t *testing.T) {
	r := rule{records: perHierarchy{
		{"", "/p/" + idA}: idA, {"name=systemd", "/p/" + idA}: idA, {"memory", "/engine/p/" + idA}: idA,
		{"memory", "/p/web"}: idB, {"name=systemd", "/engine/p/web"}: idB,
	}}
	m, err := r.match(context.Background(), lines("memory", "/engine/p/"+idA, "name=systemd", "/p/"+idA, "cpu", "/"))
	if err != nil || m.container.ID != idA || m.in.controllers != "name=systemd" || m.container.CgroupPath != "/p/"+idA {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = r.match(context.Background(), lines("name=systemd", "/p/"+idA, "memory", "/p/"+idA))
	wantRefusal(t, err, "no root-owned record declares")
	_, err = r.match(context.Background(), lines("name=systemd", "/p/"+idA, "memory", "/p/web"))
	wantRefusal(t, err, "name different containers")
	if m, err := r.match(context.Background(), lines("name=systemd", "/p/web", "cpu", "/p/web")); err != nil || m.found {
		t.Errorf("another hierarchy's path counts: %+v, %v", m, err)
	}
}

func TestMatchRefusesBadRecords(t *testing.T) {
	path := "/docker/" + idA
	broken := errors.New("bundle of " + idB + " is not JSON")
	for name, test := range map[string]struct {
		c       Container
		err     error
		refusal string
	}{
		"unreadable": {Container{}, broken, "could not be used"},
		"other path": {at(idA, "/docker/"+idB), nil, "contradict themselves"},
		"no id":      {at("", path), nil, "contradict themselves"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rule{records: recordsFunc(func(p string) (Container, bool, error) {
				return test.c, p == path, test.err
			})}
			_, err := r.match(context.Background(), lines("", path))
			wantRefusal(t, err, test.refusal)
			if strings.Contains(err.Error(), idB) {
				t.Errorf("the refusal tells of another container: %v", err)
			}
			if test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
}

func TestMatchPassesOnTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r := rule{records: recordsFunc(func(string) (Container, bool, error) {
		cancel()
		return Container{}, false, ctx.Err()
	})}
	if _, err := r.match(ctx, lines("", "/a")); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// A user's record applies to that user's cgroups and no others.
func TestMatchRootless(t *testing.T) {
	const slice = "/user.slice/user-1000.slice"
	path := slice + "/libpod-" + idA + ".scope"
	c := at(idA, path)
	c.UID = 1000
	for owner, want := range map[uint32]bool{1000: true, 0: false, 1001: false} {
		r := rule{records: declare(c), owner: func(_ hierarchy, p string) (uint32, error) {
			if p != path {
				t.Errorf("asked for the owner of %s", p)
			}
			return owner, nil
		}}
		m, err := r.match(context.Background(), lines("", path))
		if want != (err == nil && m.found && m.container == c) {
			t.Errorf("owner %d: %+v, %v", owner, m, err)
		}
		if !want {
			wantRefusal(t, err, "no root-owned record declares")
		}
	}
	r := rule{records: declare(c), owner: func(hierarchy, string) (uint32, error) { return 0, errSwapped }}
	_, err := r.match(context.Background(), lines("", path))
	wantRefusal(t, err, "owner of its cgroup")

	// It can't take the place of a container of root's either.
	below := at(idB, "/docker/"+idA+"/sub")
	below.UID = 1000
	r = rule{records: declare(at(idA, "/docker/"+idA), below), owner: func(hierarchy, string) (uint32, error) { return 0, nil }}
	m, err := r.match(context.Background(), lines("", "/docker/"+idA+"/sub"))
	if err != nil || m.container.ID != idA {
		t.Errorf("got %+v, %v", m, err)
	}
}

// A daemon in a container finds that container's id in every caller's path.
func TestMatchOwnCgroup(t *testing.T) {
	own := lines("memory", "/docker/"+idA, "", "/")
	for name, test := range map[string]struct {
		cgroups []hierarchy
		refusal bool
	}{
		"next to the daemon": {lines("memory", "/docker/"+idA, "", "/"), false},
		"below the daemon":   {lines("memory", "/docker/"+idA+"/x", "", "/"), false},
		"id below":           {lines("memory", "/docker/"+idA+"/"+idB, "", "/"), true},
		"another":            {lines("memory", "/docker/"+idB, "", "/"), true},
		"longer name":        {lines("memory", "/docker/"+idA+"-x", "", "/"), true},
		"other hierarchy":    {lines("memory", "/", "", "/docker/"+idA), true},
	} {
		r := rule{records: declare(), own: own}
		m, err := r.match(context.Background(), test.cgroups)
		if m.found || test.refusal != (err != nil) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("/docker/"+idA, "/docker/"+idA+"/x")
	f.Add("/docker", "/docker/"+idB)
	f.Add("/a", "/ab")
	f.Add("/a (deleted)", "/a (deleted)/b")
	f.Fuzz(func(t *testing.T, declared, path string) {
		hs, err := parseCgroup("0::" + path + "\n")
		if err != nil || len(hs) != 1 || strings.Contains(path, "\n") {
			return
		}
		r := rule{records: declare(at(idC, declared))}
		m, err := r.match(context.Background(), hs)
		inside := path != "/" && (declared == path || declared != "" && strings.HasPrefix(path, declared+"/"))
		if err == nil && m.found != inside || err != nil && !errors.Is(err, ErrUnattributed) {
			t.Fatalf("declared %q, path %q: %+v, %v", declared, path, m, err)
		}
	})
}
