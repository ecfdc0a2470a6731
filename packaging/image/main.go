// Image writes an image that holds one static program and its licences, without an
// engine: an OCI archive (OCI image specification 1.1, image-layout.md) for all given
// platforms, which podman, containerd and skopeo read. docker load reads it too, by the
// older manifest.json, with the first platform alone. The same files give the same bytes.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"time"
)

// options are those of the command line.
type options struct {
	name, tag string
	notice    string
	created   time.Time
	platforms []platform
}

// platform is a program for one kind of machine.
type platform struct {
	arch string // Linux's alone: a container has no other kernel
	file string
}

func main() {
	out := flag.String("out", "", "the archive to write")
	name := flag.String("name", "", "name of the image, without a tag")
	tag := flag.String("tag", "", "its tag")
	notice := flag.String("notice", "", "file with the licences")
	epoch := flag.Int64("epoch", 0, "time of everything in it, in seconds since 1970")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: image -out FILE -name NAME -tag TAG -notice FILE -epoch N ARCH=PROGRAM…")
		flag.PrintDefaults()
	}
	flag.Parse()
	o := options{name: *name, tag: *tag, notice: *notice, created: time.Unix(*epoch, 0).UTC()}
	for _, arg := range flag.Args() {
		arch, file, ok := strings.Cut(arg, "=")
		if !ok {
			fmt.Fprintf(os.Stderr, "image: %q must be ARCH=PROGRAM\n", arg)
			os.Exit(2)
		}
		o.platforms = append(o.platforms, platform{arch, file})
	}
	if *out == "" || o.name == "" || o.tag == "" || len(o.platforms) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(*out, o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// write makes the archive under another name first: nobody takes half of one.
func write(out string, o options) error {
	f, err := os.CreateTemp(path.Dir(out), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = o.archive(f)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// descriptor is that of the OCI image specification.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *machine          `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type machine struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// manifest is that of one platform, or (with manifests) the index of all.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// config is an image's configuration.
type config struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       struct {
		User       string
		Entrypoint []string
		Labels     map[string]string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // never: strings, numbers and times
	}
	return text
}
