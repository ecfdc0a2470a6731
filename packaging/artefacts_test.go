//go:build packages

package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// files reads a tar archive by name.
func files(t *testing.T, from io.Reader) (all map[string][]byte, headers map[string]*tar.Header) {
	t.Helper()
	all, headers = map[string][]byte{}, map[string]*tar.Header{}
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
}

func gunzip(t *testing.T, packed []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

type blobOf struct {
	MediaType, Digest string
	Size              int
	Platform          struct{ Architecture, OS string }
	Annotations       map[string]string
}

// cimactlImage is the image that COPY --from= takes cimactl from.
func cimactlImage(t *testing.T, dist string) {
	loaded(t, image(t, dist, "cimactl", "github.com/spf13/cobra"))
}

// image follows an image's digests from its index to the programs, and returns the
// archive. Its notice names a module that is linked.
func image(t *testing.T, dist, program, module string) string {
	name := filepath.Join(dist, program+"-"+testVersion+".oci.tar")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, _ := files(t, f)
	blob := func(d blobOf, into any) []byte {
		text := all["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
		sum := sha256.Sum256(text)
		if d.Digest != "sha256:"+hex.EncodeToString(sum[:]) || d.Size != len(text) {
			t.Fatalf("%+v has %d bytes of the digest %x", d, len(text), sum)
		}
		if into != nil {
			if err := json.Unmarshal(text, into); err != nil {
				t.Fatal(err)
			}
		}
		return text
	}
	var top, index struct{ Manifests []blobOf }
	if err := json.Unmarshal(all["index.json"], &top); err != nil || len(top.Manifests) != 1 || string(all["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Fatalf("%s %v", all["index.json"], err)
	}
	blob(top.Manifests[0], &index)
	if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != "cima-project.github.io/"+program+":"+strings.ReplaceAll(testVersion, "+", "-") {
		t.Errorf("its name is %q", got)
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, platform := range index.Manifests {
		var manifest struct {
			Config blobOf
			Layers []blobOf
		}
		var config struct {
			Architecture string
			Config       struct{ Entrypoint []string }
			RootFS       struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		blob(platform, &manifest)
		blob(manifest.Config, &config)
		layer := gunzip(t, blob(manifest.Layers[0], nil))
		sum := sha256.Sum256(layer)
		if len(manifest.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != "sha256:"+hex.EncodeToString(sum[:]) {
			t.Errorf("%s: layers %v, diff ids %v", platform.Platform, manifest.Layers, config.RootFS.DiffIDs)
		}
		inside, headers := files(t, bytes.NewReader(layer))
		h := headers[program]
		is, err := elf.NewFile(bytes.NewReader(inside[program]))
		if err != nil || h.Mode != 0o755 || h.Uid != 0 || is.Machine != machines[platform.Platform.Architecture] || config.Architecture != platform.Platform.Architecture {
			t.Errorf("%s: %+v, %v", platform.Platform, h, err)
		}
		if libraries, err := is.ImportedLibraries(); err != nil || len(libraries) > 0 {
			t.Errorf("%s: it must be static: %q, %v", platform.Platform, libraries, err)
		}
		if notice := inside["usr/share/doc/"+program+"/NOTICE"]; !bytes.Contains(notice, []byte(module)) || len(inside) != 6 {
			t.Errorf("%s: it holds %d files, and a NOTICE of %d bytes", platform.Platform, len(inside), len(notice))
		}
		if len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/"+program {
			t.Errorf("%s: %+v", platform.Platform, config.Config)
		}
	}
	if len(index.Manifests) != 2 {
		t.Errorf("it is for %d platforms", len(index.Manifests))
	}
	return name
}

// loaded has podman load the image into a store of the test's own, and take out its file.
func loaded(t *testing.T, archive string) {
	podman, err := exec.LookPath("podman")
	if err != nil || os.Geteuid() != 0 {
		t.Log("not loaded: no podman here, or not root")
		return
	}
	dir := t.TempDir()
	store := []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	out := run(t, ".", podman, append(store, "load", "-q", "-i", archive)...)
	image := "cima-project.github.io/cimactl:" + strings.ReplaceAll(testVersion, "+", "-")
	t.Cleanup(func() { exec.Command(podman, append(store, "rmi", "-f", "-a")...).Run() })
	mounted := strings.TrimSpace(run(t, ".", podman, append(store, "image", "mount", image)...))
	if says := run(t, ".", filepath.Join(mounted, "cimactl"), "version"); !strings.Contains(says, testVersion) {
		t.Errorf("podman loaded %s, whose cimactl says %q", out, says)
	}
	run(t, ".", podman, append(store, "image", "unmount", image)...)
}

// wheel checks each line of the wheel's RECORD, and imports what it holds.
func wheel(t *testing.T, dist string) {
	python := need(t, "python3")
	found, err := filepath.Glob(filepath.Join(dist, "cima_client-*-py3-none-any.whl"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	says := run(t, t.TempDir(), python, "-B", "-c", `
import base64, csv, hashlib, io, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
record, = [n for n in wheel.namelist() if n.endswith(".dist-info/RECORD")]
rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(wheel.read(record).decode()))}
assert set(rows) == set(wheel.namelist()), rows
for name, (digest, size) in rows.items():
    if name != record:
        data = wheel.read(name)
        assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode() and int(size) == len(data), name
sys.path.insert(0, sys.argv[1])
import cima_client
assert cima_client.__file__.startswith(sys.argv[1]), cima_client.__file__
print(cima_client.__version__, sum(n.startswith("cima_client/") for n in rows))`, found[0])
	if version := strings.Fields(says); len(version) != 2 || !strings.Contains(found[0], "-"+version[0]+"-") {
		t.Errorf("%s says %q", found[0], says)
	}
}

// crate compares the crate's sources with the tree's.
func crate(t *testing.T, dist string) {
	need(t, "cargo")
	found, err := filepath.Glob(filepath.Join(dist, "cima-client-*.crate"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	packed, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	all, _ := files(t, bytes.NewReader(gunzip(t, packed)))
	top := strings.TrimSuffix(filepath.Base(found[0]), ".crate")
	sources, err := filepath.Glob("../rpc/rust/src/*.rs")
	if err != nil || len(sources) < 5 {
		t.Fatal(sources, err)
	}
	for _, file := range append(sources, "../rpc/rust/README.md", "../rpc/rust/Cargo.lock") {
		want, err := os.ReadFile(file)
		below, _ := filepath.Rel("../rpc/rust", file)
		if got := all[top+"/"+below]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes in the crate, %d in the tree: %v", below, len(got), len(want), err)
		}
	}
}
