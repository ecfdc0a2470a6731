//go:build packages

package packaging

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pythonDeb compares the client's package with the client: it has all modules
// and nothing else, and can be imported where it is installed.
func pythonDeb(t *testing.T, dist string) {
	dpkg, python := need(t, "dpkg-deb"), need(t, "python3")
	deb := filepath.Join(dist, "python3-cima-client_"+testVersion+"-1_all.deb")
	root, control := t.TempDir(), t.TempDir()
	run(t, ".", dpkg, "-x", deb, root)
	run(t, ".", dpkg, "-e", deb, control)
	for _, script := range []string{"postinst", "prerm"} {
		run(t, ".", "sh", "-n", filepath.Join(control, script))
	}
	site := filepath.Join(root, "usr/lib/python3/dist-packages")
	var got, want []string
	err := filepath.WalkDir(site, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if dir := filepath.Dir(path); !strings.HasSuffix(dir, ".dist-info") {
			got = append(got, filepath.Base(path))
		}
		return plain(t, path)
	})
	if err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Glob("../rpc/python/cima_client/*.py")
	if err != nil || len(modules) < 8 {
		t.Fatal(modules, err)
	}
	for _, m := range append(modules, "py.typed") {
		want = append(want, filepath.Base(m))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the package has %q, the client %q", got, want)
	}
	says := run(t, site, python, "-B", "-c", `
import importlib.metadata, cima_client
assert cima_client.__file__.startswith(`+"'"+site+`'), cima_client.__file__
print(importlib.metadata.version("cima_client"), cima_client.__version__)`)
	if version := strings.Fields(says); len(version) != 2 || version[0] != version[1] {
		t.Errorf("versions differ: %q", says)
	}
}
