package kubernetes

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// imageConfig is what an image says of its containers; the digest of its layer follows.
const imageConfig = `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","MODE=test"],"Cmd":["/bin/busybox","sleep","1000"],"WorkingDir":"/etc"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`

// ociArchive is an OCI archive of an image with one layer.
func ociArchive(name string, layer []byte) (string, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	var failed error
	add := func(name string, text []byte) {
		if failed == nil {
			failed = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0)})
		}
		if failed == nil {
			_, failed = w.Write(text)
		}
	}
	blob := func(text []byte) string {
		sum := sha256.Sum256(text)
		digest := hex.EncodeToString(sum[:])
		add("blobs/sha256/"+digest, text)
		return digest
	}
	diff := blob(layer)
	config := fmt.Appendf(nil, imageConfig, diff)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}`, blob(config), len(config), diff, len(layer))
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,`+
		`"annotations":{"io.containerd.image.name":%q}}]}`, blob(manifest), len(manifest), name)
	add("index.json", []byte(index))
	add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if failed == nil {
		failed = w.Close()
	}
	return out.String(), failed
}
