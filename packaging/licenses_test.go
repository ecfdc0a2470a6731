package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// debian/copyright has a stanza for each module, for the test module under the GPL and
// for Intel's certificate: it is what copyright.sh makes.
func TestCopyrightIsMadeFromTheLicences(t *testing.T) {
	want := run(t, ".", "sh", "copyright.sh")
	if got := string(read(t, "debian/copyright")); got != want {
		t.Error("debian/copyright must be what packaging/copyright.sh prints: run packaging/copyright.sh >packaging/debian/copyright")
	}
	modules := regexp.MustCompile(`(?m)^\t(\S+) v\S+`).FindAllStringSubmatch(string(read(t, "../go.mod")), -1)
	if len(modules) < 20 {
		t.Fatalf("only %d modules are in go.mod", len(modules))
	}
	files := []string{"packaging/test/vm/module/*", "hw/verify/dcap/intel_root.pem", "hw/verify/snp/amd/*"}
	for _, m := range modules {
		files = append(files, "vendor/"+m[1]+"/*")
	}
	for _, f := range files {
		if strings.HasPrefix(f, "vendor/github.com/stretchr/testify/") {
			continue // required by a module's own tests; vendor/ holds none of it (sourceDeb checks)
		}
		if !strings.Contains(want, "\nFiles: "+f+"\nCopyright: ") {
			t.Errorf("debian/copyright lacks a stanza for %s", f)
		}
	}
	// No file of the tree is under another licence and without a stanza.
	err := filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if e != nil && (e.Name() == ".git" || e.Name() == ".cache" || e.Name() == "dist") {
				return filepath.SkipDir
			}
			return err
		}
		m := regexp.MustCompile(`SPDX-License-Identifier: (\S+)`).FindSubmatch(read(t, path))
		if m != nil && !strings.HasSuffix(path, "_test.go") && string(m[1]) != "Apache-2.0" && !strings.HasPrefix(path, "../packaging/test/vm/module/") {
			t.Errorf("%s says it is under %s: packaging/copyright.sh needs a stanza", path, m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The licence of each package is that of all that is linked into it.
func TestLicenceOfPackages(t *testing.T) {
	for _, name := range []string{"cimad", "cimactl", "cimad-sim"} {
		want := strings.TrimSpace(run(t, ".", "sh", "licenses.sh", name, "--expression"))
		if !strings.Contains(want, " AND ") {
			t.Fatalf("%s: %q", name, want)
		}
		for file, pattern := range map[string]string{
			"nfpm/" + name + ".yaml": `(?m)^license: (.*)$`,
			"rpm/cima.spec":          `(?ms)^%package -n ` + name + `$.*?^License: +(.*?)$`,
		} {
			m := regexp.MustCompile(pattern).FindSubmatch(read(t, file))
			if m == nil || string(m[1]) != want {
				t.Errorf("%s: the licence of %s must be %q, not %q", file, name, want, m)
			}
		}
	}
}

// Wheel and crate are packed from their own folders, and carry the licence.
func TestClientsCarryTheLicence(t *testing.T) {
	want := read(t, "../LICENSE")
	for _, dir := range []string{"../rpc/python", "../rpc/rust"} {
		if got := read(t, filepath.Join(dir, "LICENSE")); string(got) != string(want) {
			t.Errorf("%s/LICENSE must be the LICENSE of the tree", dir)
		}
	}
	out := t.TempDir()
	run(t, "../rpc/python", need(t, "python3"), "-B", "-c", `import sys; sys.path.insert(0, "build_backend")
import wheel_of_one, zipfile, tarfile
wheel = zipfile.ZipFile(sys.argv[1] + "/" + wheel_of_one.build_wheel(sys.argv[1]))
text = open("LICENSE", "rb").read()
(name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
assert wheel.read(name) == text
assert b"\nLicense-Expression: Apache-2.0\nLicense-File: LICENSE\n" in wheel.read(name.replace("licenses/LICENSE", "METADATA"))
source = tarfile.open(sys.argv[1] + "/" + wheel_of_one.build_sdist(sys.argv[1]))
(name,) = [n for n in source.getnames() if n.endswith("/LICENSE")]
assert source.extractfile(name).read() == text`, out)
}
