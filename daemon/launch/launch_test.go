package launch

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch/launchtest"
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

// The digests as cima-evidence(7) writes them, byte by byte.
func TestDigests(t *testing.T) {
	sum := func(text string) [48]byte { return sha512.Sum384([]byte(text)) }
	l := Launch{
		Source: "bundle", CgroupOwner: 7, Asked: &Asked{Arguments: []Text{"/bin/a"}}, Defaults: &Defaults{Seccomp: "x"},
		Limits: Members{"process.oomScoreAdj": []byte("1")}, Entrypoint: &Entrypoint{Path: "/bin/a", SHA384: "y"},
	}
	asked := sha384Hex([]byte(`{"arguments":["/bin/a"],"user":{"gid":0,"uid":0}}`))
	defaults := sum(`{"capabilities":{},"seccomp":"x"}`)
	for name, test := range map[string]struct {
		config string
		image  Image
		want   string
	}{
		"config":         {"", Image{Reference: "r", Digest: "sha256:d", Layers: []string{"l"}}, `{"config":"sha256:d"}`},
		"of the launch":  {"sha256:c", Image{Digest: "sha256:d"}, `{"config":"sha256:c"}`},
		"manifest":       {"", Image{Manifest: "sha256:m"}, `{"manifest":"sha256:m"}`},
		"both":           {"", Image{Digest: "sha256:d", Manifest: "sha256:m"}, `{"config":"sha256:d"}`},
		"absent":         {"", Image{Absent: "why"}, `{"absent":"why"}`},
		"reference only": {"", Image{Reference: "r"}, `{"absent":""}`},
	} {
		l.ImageConfig = test.config
		if digestOf(t, l, test.image) != sum(`{"asked":"`+asked+`","cgroup_owner":7,"image":`+test.want+`,"source":"bundle"}`) {
			t.Errorf("%s: another launch digest", name)
		}
	}
	if bothOf(t, l)[1] != defaults {
		t.Error("another defaults digest")
	}
	none := Launch{Source: "none"}
	if digestOf(t, none, Image{}) != sum(`{"cgroup_owner":0,"image":{"absent":""},"source":"none"}`) || bothOf(t, none)[1] != [48]byte{} {
		t.Error("a launch of which nothing is known has another digest")
	}
}

// A launch that is too large for an event has the digests that it has as a whole.
func TestCondense(t *testing.T) {
	for _, name := range launchtest.Names(t) {
		l := launchOf(t, config(t, name))
		l.ImageConfig, l.CgroupOwner, l.Entrypoint = "sha256:x", 7, &Entrypoint{Path: "/x"}
		same, err := Condense(l, 1<<20)
		if diff := cmp.Diff(l, same); err != nil || diff != "" {
			t.Fatal("a small launch was changed", diff, err)
		}
		small, err := Condense(l, 100)
		if err != nil || bothOf(t, small) != bothOf(t, l) {
			t.Fatal("a condensed launch has other digests", err)
		}
		want := Launch{Source: "bundle", CgroupOwner: 7, ImageConfig: "sha256:x", Entrypoint: l.Entrypoint, AskedSHA384: small.AskedSHA384, DefaultsSHA384: small.DefaultsSHA384}
		if diff := cmp.Diff(want, small); diff != "" {
			t.Error(diff)
		}
		again, err := Condense(small, 100)
		if diff := cmp.Diff(small, again); err != nil || diff != "" {
			t.Error("condensed twice:", diff, err)
		}
	}
}
