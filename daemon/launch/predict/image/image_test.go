package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
)

// entries are files of a tar archive: name → content. A name with "->" is a link, one
// that ends with "/" a directory.
type entries [][2]string

func archived(t testing.TB, list entries) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, e := range list {
		h := &tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1])), Typeflag: tar.TypeReg}
		if name, target, ok := strings.Cut(e[0], "->"); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if strings.HasSuffix(e[0], "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func packed(t testing.TB, plain []byte) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// layout is an image layout in the making.
type layout struct {
	testing.TB
	files fstest.MapFS
}

func (l layout) blob(text []byte) string {
	d := digestOf(text)
	l.files[path.Join("blobs", strings.Replace(d, ":", "/", 1))] = &fstest.MapFile{Data: text}
	return d
}

func (l layout) json(v any) string { return l.blob(encode(l, v)) }

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type m = map[string]any

// add adds an image of these layers, and returns the digest of its manifest.
func (l layout) add(layers ...entries) string {
	l.Helper()
	var diffs []string
	var list []m
	for i, e := range layers {
		plain := archived(l, e)
		diffs = append(diffs, digestOf(plain))
		if i%2 == 1 {
			plain = packed(l, plain)
		}
		list = append(list, m{"digest": l.blob(plain)})
	}
	config := l.json(m{"config": m{"User": "app", "Env": []string{"A=1"}}, "rootfs": m{"diff_ids": diffs}})
	return l.json(m{"config": m{"digest": config}, "layers": list})
}

func (l layout) index(manifests ...m) layout {
	l.files["index.json"] = &fstest.MapFile{Data: encode(l, m{"manifests": manifests})}
	return l
}

func newLayout(t testing.TB) layout { return layout{t, fstest.MapFS{}} }

func named(digest, name string) m {
	return m{"digest": digest, "annotations": m{"org.opencontainers.image.ref.name": name}}
}

const passwd = "root:x:0:0::/root:/bin/sh\napp:x:%d:8::/:/bin/sh\n"

// uid is that of the image's user, and -1 where passwd isn't known.
func uid(t testing.TB, i predict.Image) int {
	t.Helper()
	p, err := predict.Predict(&predict.Container{Engine: predict.Docker, Command: []string{"x"}}, i, predict.Host{}, launch.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Unknown) > 0 {
		return -1
	}
	return int(p.Launch.Asked.User.UID)
}

// The uppermost layer that has passwd, or hides it, counts.
func TestUsersOfLayers(t *testing.T) {
	first, second := fmt.Sprintf(passwd, 1000), fmt.Sprintf(passwd, 2000)
	for name, test := range map[string]struct {
		layers []entries
		want   int // 0: no such user
	}{
		"one layer":      {[]entries{{{"etc/passwd", first}}}, 1000},
		"two layers":     {[]entries{{{"etc/passwd", first}}, {{"./etc/passwd", second}}}, 2000},
		"below":          {[]entries{{{"etc/passwd", first}}, {{"etc/", ""}, {"etc/group", "g:x:8:app"}}}, 1000},
		"hidden":         {[]entries{{{"etc/passwd", first}}, {{"etc/.wh.passwd", ""}}}, 0},
		"hidden, new":    {[]entries{{{"etc/passwd", first}}, {{"etc/passwd", second}, {"etc/.wh.passwd", ""}}}, 2000},
		"etc hidden":     {[]entries{{{"etc/passwd", first}}, {{".wh.etc", ""}}}, 0},
		"etc opaque":     {[]entries{{{"etc/passwd", first}}, {{"etc/.wh..wh..opq", ""}, {"etc/passwd", second}}}, 2000},
		"all opaque":     {[]entries{{{"etc/passwd", first}}, {{".wh..wh..opq", ""}}}, 0},
		"a directory":    {[]entries{{{"etc/passwd", first}}, {{"etc/passwd/", ""}}}, 0},
		"a link":         {[]entries{{{"etc/passwd", first}}, {{"etc/passwd->/x", ""}}}, -1},
		"etc is a link":  {[]entries{{{"etc/passwd", first}}, {{"etc->/x", ""}}}, -1},
		"another passwd": {[]entries{{{"usr/etc/passwd", second}, {"etc/passwd", first}}}, 1000},
	} {
		l := newLayout(t)
		l.index(m{"digest": l.add(test.layers...)})
		i, err := Read(l.files, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if test.want == 0 {
			if _, err := predict.Predict(&predict.Container{Engine: predict.Docker, Command: []string{"x"}}, i, predict.Host{}, launch.Rules{}); err == nil || !strings.Contains(err.Error(), `no user "app"`) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := uid(t, i); got != test.want {
			t.Errorf("%s: uid %d, and must be %d", name, got, test.want)
		}
	}
}

func TestWhichImage(t *testing.T) {
	l := newLayout(t)
	first, second := l.add(entries{{"etc/passwd", fmt.Sprintf(passwd, 1)}}), l.add(entries{{"etc/passwd", fmt.Sprintf(passwd, 2)}})
	index := l.json(m{"manifests": []m{{"digest": first, "platform": m{"os": "linux", "architecture": "arm64"}}, {"digest": second, "platform": m{"os": "linux", "architecture": "amd64"}}}})
	arm := l.json(m{"manifests": []m{{"digest": first, "platform": m{"os": "linux", "architecture": "arm64"}}}})
	deep := index
	for range maxDepth {
		deep = l.json(m{"manifests": []m{{"digest": deep}}})
	}
	l.index(named(first, "1"), named(second, "reg/x:2"), named(index, "many"), named(arm, "arm"), named(deep, "deep"), named(l.json(m{"layers": []m{}}), "none"))
	for tag, want := range map[string]int{"1": 1, "2": 2, "x:2": 2, "reg/x:2": 2, "many": 2} {
		i, err := Read(l.files, tag)
		if err != nil || uid(t, i) != want {
			t.Errorf("%s: %v", tag, err)
		}
	}
	for tag, want := range map[string]string{"": "name one", "3": `no image "3"`, "arm": "amd64", "deep": "indexes within", "none": "no configuration"} {
		if _, err := Read(l.files, tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, and no %q", tag, err, want)
		}
	}
	if _, err := Read(fstest.MapFS{}, ""); err == nil || !strings.Contains(err.Error(), "index.json") {
		t.Error(err)
	}
}

// Every blob is held against its digest.
func TestDamagedImages(t *testing.T) {
	l := newLayout(t)
	l.index(m{"digest": l.add(entries{{"etc/passwd", fmt.Sprintf(passwd, 1)}}, entries{{"x", "y"}})})
	if _, err := Read(l.files, ""); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for name, file := range l.files {
		if name == "index.json" {
			continue
		}
		seen++
		damaged := maps.Clone(l.files)
		text := bytes.Clone(file.Data)
		text[len(text)/2] ^= 1
		damaged[name] = &fstest.MapFile{Data: text}
		if _, err := Read(damaged, ""); err == nil {
			t.Errorf("a damaged %s was read", name)
		}
		delete(damaged, name)
		if _, err := Read(damaged, ""); err == nil {
			t.Errorf("without %s an image was read", name)
		}
	}
	if seen != 4 {
		t.Errorf("%d blobs were damaged", seen)
	}
	// A layer that the configuration does not name.
	config := l.json(m{"rootfs": m{"diff_ids": []string{digestOf([]byte("other"))}}})
	l.index(m{"digest": l.json(m{"config": m{"digest": config}, "layers": []m{{"digest": l.blob(archived(t, nil))}}})})
	if _, err := Read(l.files, ""); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("another image's layer: %v", err)
	}
	for name, of := range map[string]m{
		"digest": {"config": m{"digest": "md5:00"}},
		"path":   {"config": m{"digest": "sha256:../../etc/passwd"}},
		"layers": {"config": m{"digest": l.json(m{"rootfs": m{"diff_ids": []string{"a", "b"}}})}},
		"zstd":   {"config": m{"digest": config}, "layers": []m{{"digest": l.blob([]byte{0x28, 0xb5, 0x2f, 0xfd})}}},
	} {
		l.index(m{"digest": l.json(of)})
		i, err := Read(l.files, "")
		if name == "zstd" && (err != nil || i.Users != nil || i.Config == nil) || name != "zstd" && err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An archive of docker's or podman's has the same image, and so has a layout in one.
func TestArchives(t *testing.T) {
	layer := archived(t, entries{{"etc/passwd", fmt.Sprintf(passwd, 5)}})
	config := encode(t, m{"config": m{"User": "app"}, "rootfs": m{"diff_ids": []string{digestOf(layer)}}})
	list := encode(t, []m{{"Config": "c.json", "RepoTags": []string{"x:1"}, "Layers": []string{"a/layer.tar"}}, {"Config": "c.json", "RepoTags": []string{"x:2"}, "Layers": []string{"b/layer.tar"}}})
	saved := entries{{"c.json", string(config)}, {"b/layer.tar->../a/layer.tar", ""}, {"a/layer.tar", string(layer)}, {"manifest.json", string(list)}}
	for _, tag := range []string{"1", "x:2"} {
		i, err := Read(open(t, saved), tag)
		if err != nil || uid(t, i) != 5 || i.Config.Digest != digestOf(config) {
			t.Errorf("%s: %v", tag, err)
		}
	}
	for _, tag := range []string{"", "3"} {
		if _, err := Read(open(t, saved), tag); err == nil || !strings.Contains(err.Error(), "name one") {
			t.Errorf("%q: %v", tag, err)
		}
	}
	saved[2][1] = string(archived(t, nil))
	if _, err := Read(open(t, saved), "1"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("another layer: %v", err)
	}
	l := newLayout(t)
	l.index(m{"digest": l.add(entries{{"etc/passwd", fmt.Sprintf(passwd, 6)}})})
	var all entries
	for name, f := range l.files {
		all = append(all, [2]string{name, string(f.Data)})
	}
	if i, err := Read(open(t, all), ""); err != nil || uid(t, i) != 6 {
		t.Errorf("a layout in an archive: %v", err)
	}
	loop := open(t, entries{{"index.json->index.json", ""}})
	if _, err := Read(loop, ""); err == nil {
		t.Error("a loop of links was read")
	}
	if _, err := Archive(bytes.NewReader([]byte("no archive, and longer than nothing")), 34); err == nil {
		t.Error("no archive was read")
	}
}

func open(t testing.TB, list entries) fs.FS {
	t.Helper()
	text := archived(t, list)
	files, err := Archive(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Any archive gives an error or an image; nothing panics, and nothing grows.
func FuzzImage(f *testing.F) {
	l := newLayout(f)
	l.index(m{"digest": l.add(entries{{"etc/passwd", fmt.Sprintf(passwd, 6)}}, entries{{"etc/.wh.passwd", ""}})})
	var all entries
	for name, file := range l.files {
		all = append(all, [2]string{name, string(file.Data)})
	}
	f.Add(archived(f, all))
	f.Add(archived(f, entries{{"manifest.json", `[{"Config":"c","Layers":[]}]`}, {"c", `{}`}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := Archive(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		if i, err := Read(files, ""); err == nil && i.Config == nil {
			t.Fatal("an image without a configuration")
		}
	})
}

// Any layer gives an error or users; the digests are those of the layer.
func FuzzLayer(f *testing.F) {
	plain := archived(f, entries{{"etc/passwd", fmt.Sprintf(passwd, 6)}, {"etc/.wh.group", ""}})
	f.Add(plain)
	f.Add(packed(f, plain))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := store{fstest.MapFS{"l": &fstest.MapFile{Data: text}}}
		s.users([]layer{{"l", digestOf(text)}}, []string{digestOf(text)})
	})
}
