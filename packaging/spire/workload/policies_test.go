package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"

	"github.com/cima-project/cima/rpc"
)

const (
	form  = "cima_policy = 2\n"
	shop  = form + "[power]\nallow = [\"privileged\"]\n[[container]]\nname = \"shop\"\nlaunch = [\"" + launch + "\"]\n"
	other = form + "[[container]]\nname = \"other\"\nany = true\n"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// From SPIRE's call to the selector: the files count as they are when a process is attested,
// and what isn't in the answer meets nothing.
func TestNames(t *testing.T) {
	socket := daemon(t, func(pid int) string {
		text := fmt.Sprintf(container, pid, "")
		switch pid {
		case 2:
			return fmt.Sprintf(container, pid, `"privileged"`)
		case 3:
			return fmt.Sprintf(container, pid, `"mount:proc"`)
		case 4:
			return strings.Replace(text, `,"power":[]`, "", 1)
		case 5:
			return strings.Replace(text, `"gated"`, `"observed"`, 1)
		case 6:
			return strings.Replace(text, `"launch_digest":"`+launch+`",`, "", 1)
		case 7:
			return `"result":{"pid":7,"started":5,"host":{"unit":"a.service","uid":7}}`
		case 8:
			return strings.Replace(text, `"source":"bundle"`, `"source":"user"`, 1)
		case 9:
			return strings.Replace(text, `"cgroup_owner":0`, `"cgroup_owner":9`, 1)
		}
		return text
	})
	dir := t.TempDir()
	file, revocations := filepath.Join(dir, "p.toml"), filepath.Join(dir, "r.toml")
	none := form + "[[revoked]]\nwhy = \"x\"\ndigest = \"" + strings.Repeat("ab", 48) + "\"\n"
	put(t, file, shop)
	put(t, revocations, none)
	client, err := serve(t, fmt.Sprintf("socket = %q\npolicy = %q\nrevocations = %q", socket, file, revocations))
	if err != nil {
		t.Fatal(err)
	}
	names := func(pid int32) (names []string) {
		t.Helper()
		r, err := client.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: pid})
		if err != nil || len(r.GetSelectorValues()) < 3 {
			t.Fatalf("%d: %q %v", pid, r.GetSelectorValues(), err)
		}
		for _, v := range r.GetSelectorValues() {
			if strings.HasPrefix(v, "policy:") {
				names = append(names, v)
			}
		}
		return names
	}
	for pid, want := range map[int32]bool{1: true, 2: true, 3: false, 4: false, 5: false, 6: false, 7: false, 8: false, 9: false} {
		if got := names(pid); want != slices.Equal(got, []string{"policy:shop"}) || !want && got != nil {
			t.Errorf("%d: %q", pid, got)
		}
	}
	for _, c := range []struct {
		name, file, revocations string
		want                    []string
	}{
		{"another policy", other, none, []string{"policy:other"}},
		{"revoked", shop, form + "[[revoked]]\nwhy = \"x\"\ndigest = \"" + launch + "\"\n", nil},
		{"no longer", shop, none, []string{"policy:shop"}},
		{"unreadable", "x", none, nil},
		{"no longer", shop, none, []string{"policy:shop"}},
		{"unreadable revocations", shop, "x", nil},
		{"nobody's", form, none, nil},
		{"too large", other + strings.Repeat("#", maxFile), none, nil},
		{"again", other, none, []string{"policy:other"}},
	} {
		put(t, file, c.file)
		put(t, revocations, c.revocations)
		if got := names(1); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if err := os.Remove(revocations); err != nil {
		t.Fatal(err)
	}
	if got := names(1); got != nil {
		t.Errorf("the revocations are gone: %q", got)
	}
}

// Names without end are not selectors without end, and what did not change is not parsed again.
func TestNamesMany(t *testing.T) {
	var b strings.Builder
	b.WriteString(form)
	for i := range 2 * maxNames {
		fmt.Fprintf(&b, "[[container]]\nname = \"%d\"\nany = true\n", i)
	}
	b.WriteString("[[container]]\nname = \"x\"\nany = true\nexecs = []\n")
	file := filepath.Join(t.TempDir(), "p.toml")
	put(t, file, b.String())
	var said strings.Builder
	p := &policies{paths: []string{file}, log: hclog.New(&hclog.LoggerOptions{Output: &said})}
	digest := rpc.Digest{1}
	who := rpc.ProcessIdentity{Source: "bundle", Power: []string{}, Container: &rpc.ContainerIdentity{ID: "x", LaunchDigest: &digest, Assurance: rpc.Assurance{Start: "gated"}}}
	if got := p.names(who, time.Now()); len(got) != maxNames || got[0] != "policy:0" || got[maxNames-1] != fmt.Sprintf("policy:%d", maxNames-1) {
		t.Errorf("%q", got)
	}
	parsed := p.parsed
	if p.names(who, time.Now()); p.parsed != parsed || strings.Count(said.String(), `container \"x\" has execs, which no look-up shows`) != 1 {
		t.Errorf("parsed again, or not told once: %s", said.String())
	}
}
