package predict

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/image"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// images reads what --image and --image-config name. identity becomes what is known of
// the image; it stays as it is where nothing is.
func (f *flags) images(identity *launch.Image) (predict.Image, error) {
	if f.image != "" && f.config != "" {
		return predict.Image{}, errors.New("--image and --image-config must not both be given")
	}
	var i predict.Image
	var err error
	switch {
	case f.config != "":
		i.Config, err = readImageConfig(f.config)
	case f.image != "":
		i, err = ReadImage(f.image, identity)
	}
	if i.Config != nil {
		*identity = launch.Image{Digest: i.Config.Digest}
	}
	return i, err
}

func readImageConfig(path string) (*launch.ImageConfig, error) {
	text, err := command.ReadBounded(path, launch.MaxConfig)
	if err != nil {
		return nil, err
	}
	i, err := launch.ParseImageConfig(text)
	if err != nil {
		return nil, &command.Failure{Err: fmt.Errorf("%s: %w", path, err), Code: command.Malformed, Hint: "an image's configuration is the file that its manifest names as config"}
	}
	return i, nil
}

// ReadImage reads PLACE[:TAG]: a directory with an OCI image layout, an archive with
// one or of `docker save`, or an image's identity as in its event.
func ReadImage(place string, identity *launch.Image) (i predict.Image, err error) {
	tag := ""
	info, err := os.Stat(place)
	if at := strings.LastIndexByte(place, ':'); errors.Is(err, fs.ErrNotExist) && at > 0 {
		place, tag = place[:at], place[at+1:]
		info, err = os.Stat(place)
	}
	if err != nil {
		return i, err
	}
	files := os.DirFS(place)
	if !info.IsDir() {
		f, err := os.Open(place)
		if err != nil {
			return i, err
		}
		defer f.Close()
		first := make([]byte, 1)
		if _, err := f.ReadAt(first, 0); err == nil && first[0] == '{' {
			return i, readIdentity(place, identity)
		}
		if files, err = image.Archive(f, info.Size()); err != nil {
			return i, &command.Failure{Err: fmt.Errorf("%s: %w", place, err), Code: command.Malformed, Hint: imageHint}
		}
	}
	if i, err = image.Read(files, tag); err != nil {
		return i, &command.Failure{Err: fmt.Errorf("%s: %w", place, err), Code: command.Malformed, Hint: imageHint}
	}
	return i, nil
}

const (
	imageHint    = "--image takes an OCI image layout (a directory, or a tar archive of it) or what `docker save` wrote; `skopeo copy` and `podman save` write both"
	identityHint = `an image must be {"reference":…,"digest":"sha256:…","layers":[…]}, as in the image event`
)

func readIdentity(path string, identity *launch.Image) error {
	text, err := command.ReadBounded(path, launch.MaxConfig)
	if err != nil {
		return err
	}
	var i launch.Image
	if err := canonical.Unmarshal(text, &i); err != nil {
		return command.Hinted(fmt.Errorf("%s: %w", path, err), identityHint)
	}
	if i.Reference+i.Digest+i.Manifest+i.Absent == "" && len(i.Layers) == 0 {
		return command.Hinted(fmt.Errorf("%s must hold an image", path), identityHint)
	}
	*identity = i
	return nil
}
