package launch

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files again")

func launchOf(t testing.TB, c any) Launch {
	t.Helper()
	// The podman bundle of a pod names this one.
	shares := func(id string) bool { return IsID(id) && id != strings.Repeat("ab", 32) }
	l, err := FromConfig(bytes.NewReader(encode(t, c)), Rules{}, Known{Shares: shares})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func digestOf(t testing.TB, l Launch, i Image) [48]byte {
	t.Helper()
	d, err := Digest(l, i)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The complete launches of real bundles, as cima-evidence(7) describes them.
func TestLaunchOfRealBundles(t *testing.T) {
	for _, name := range []string{"docker", "docker-privileged", "podman", "podman-pod", "ctr", "cri"} {
		t.Run(name, func(t *testing.T) {
			l := launchOf(t, config(t, name))
			got, err := json.MarshalIndent(l, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".launch")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
				t.Error(diff)
			}
			var back Launch
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			if digestOf(t, back, Image{}) != digestOf(t, l, Image{}) {
				t.Error("a launch read back from its JSON has another digest")
			}
		})
	}
}

// A launch shows no id, time, host name or pid of its bundle.
func TestLaunchHoldsNothingOfTheRun(t *testing.T) {
	for _, name := range []string{"docker", "podman", "podman-pod", "cri"} {
		form := string(encode(t, launchOf(t, config(t, name))))
		for _, mark := range []string{"a0a0a0", "a1a1a1", "b0b0b0", "c0c0c0", "a0b03f3c9fb4", "2026-", "netns-", "4406", "0b7c3f51"} {
			if strings.Contains(form, mark) {
				t.Errorf("%s: launch holds %q", name, mark)
			}
		}
	}
}

// renamed is the same container started at another time: with other ids, pids,
// time and host name, and in another order where order has no meaning.
func renamed(t *testing.T, c map[string]any, seed uint64) map[string]any {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	text := string(encode(t, c))
	for _, part := range []string{"a0", "a1", "a2", "b0", "c0"} {
		text = strings.ReplaceAll(text, strings.Repeat(part, 6), fmt.Sprintf("%012x", random.Uint64()&0xFFFFFFFFFFFF))
	}
	text = strings.NewReplacer("/proc/4406/", "/proc/77/", "2026-11", "2027-01", "0b7c3f51", "1c8d4062", "/proc/22475/", "/proc/8/").Replace(text)
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	shuffle := func(v any) {
		list, _ := v.([]any)
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	process, linux := out["process"].(map[string]any), out["linux"].(map[string]any)
	for _, set := range process["capabilities"].(map[string]any) {
		shuffle(set)
	}
	shuffle(process["env"])
	shuffle(linux["maskedPaths"])
	shuffle(linux["readonlyPaths"])
	shuffle(linux["namespaces"])
	shuffle(linux["devices"])
	for _, m := range out["mounts"].([]any) {
		shuffle(m.(map[string]any)["options"])
	}
	if s, ok := linux["seccomp"].(map[string]any); ok {
		shuffle(s["architectures"])
		for _, call := range s["syscalls"].([]any) {
			shuffle(call.(map[string]any)["names"])
		}
	}
	return out
}

func TestEqualLinesGiveEqualDigests(t *testing.T) {
	for _, name := range []string{"docker", "podman", "podman-pod", "ctr", "cri"} {
		want := digestOf(t, launchOf(t, config(t, name)), Image{})
		for seed := range uint64(50) {
			if got := digestOf(t, launchOf(t, renamed(t, config(t, name), seed)), Image{}); got != want {
				t.Errorf("%s, seed %d: another digest\n%s", name, seed,
					cmp.Diff(launchOf(t, config(t, name)), launchOf(t, renamed(t, config(t, name), seed))))
				break
			}
		}
	}
}

func TestCondense(t *testing.T) {
	l := launchOf(t, config(t, "docker"))
	same, err := Condense(l, 1<<20)
	if err != nil || digestOf(t, same, Image{}) != digestOf(t, l, Image{}) {
		t.Fatal("a small launch was changed", err)
	}
	small, err := Condense(l, 100)
	if err != nil || len(small.AskedSHA384) != 96 || len(small.DefaultsSHA384) != 96 || small.Asked != nil {
		t.Fatalf("%+v, %v", small, err)
	}
	l.Asked.Arguments[0] = "/bin/other"
	other, err := Condense(l, 100)
	if err != nil || other.AskedSHA384 == small.AskedSHA384 {
		t.Fatal("two large launches look the same", err)
	}
}
