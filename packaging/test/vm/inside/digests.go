package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

const digestImage = "localhost/cima-digest:1"

// digestRun is the line whose launch digest is compared.
var digestRun = []string{"docker", "run", "-d", "--network", "none", "--cgroupns", "private", digestImage, "/bin/busybox", "sleep", "300"}

// predicted checks that `cimactl predict` gives the logged launch digest, for a
// fixed command line, and copies image, bundle and digest out of the VM:
// another machine with this docker must give the same digest. It does so
// without AppArmor too, because docker doesn't use it where docker seems to run
// in a container, as it may on the other machine: nobody asked for a profile, so the
// digest is the same.
func predicted(ctx context.Context, w *world) error {
	if err := importBusybox(ctx); err != nil {
		return err
	}
	saved := filepath.Join(os.TempDir(), "digest-image.tar")
	if _, err := command(ctx, "docker", "save", "-o", saved, digestImage); err != nil {
		return err
	}
	image, err := os.ReadFile(saved)
	if err != nil {
		return err
	}
	w.keep("digests/image.tar", image)
	with, err := predictedOnce(ctx, w, "with-apparmor", saved)
	if err != nil {
		return err
	}
	const dropIn = "/etc/systemd/system/docker.service.d/no-apparmor.conf"
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(dropIn, []byte("[Service]\nEnvironment=container=vm\n"), 0o644); err != nil {
		return err
	}
	restart := func() error {
		_, err1 := command(ctx, "systemctl", "daemon-reload")
		_, err2 := command(ctx, "systemctl", "restart", "docker.service")
		return errors.Join(err1, err2)
	}
	err = restart()
	without := ""
	if err == nil {
		without, err = predictedOnce(ctx, w, "without-apparmor", saved)
	}
	if err = errors.Join(err, os.Remove(dropIn), restart()); err != nil {
		return err
	}
	if with != without {
		return fmt.Errorf("the launch digest must not depend on the host's AppArmor: %s with, %s without", with, without)
	}
	version, err := command(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	w.keep("digests/docker-version", []byte(version))
	w.note("docker %s, %.16s…", strings.TrimSpace(version), with)
	return err
}

func predictedOnce(ctx context.Context, w *world, name, image string) (digest string, err error) {
	out, err := command(ctx, digestRun...)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(out)
	defer command(ctx, "docker", "rm", "-f", id)
	if digest, err = loggedDigest(ctx, id); err != nil {
		return "", err
	}
	bundle := "/run/containerd/io.containerd.runtime.v2.task/moby/" + id
	config, err := os.ReadFile(bundle + "/config.json")
	if err != nil {
		return "", err
	}
	events, err := readRuntimeLog()
	if err != nil {
		return "", err
	}
	for _, e := range events {
		if e.Container == id && (e.Operation == logs.OpLaunch || e.Operation == logs.OpImage) {
			w.keep("digests/"+name+"/"+e.Operation+".json", e.Body())
		}
	}
	w.keep("digests/"+name+"/config.json", config)
	w.keep("digests/"+name+"/digest", []byte(digest))
	for _, from := range [][]string{{"--bundle", bundle}, {"--bundle", bundle, "--image", image}, {"--run", strings.Join(digestRun, " "), "--image", image}} {
		out, err := command(ctx, append([]string{"cimactl", "predict"}, from...)...)
		if err == nil && strings.TrimSpace(out) != digest {
			err = fmt.Errorf("%s: %s: predicted %s, logged %s", name, from[0], out, digest)
		}
		if err != nil {
			return "", err
		}
	}
	return digest, nil
}

// loggedDigest is a container's launch digest, when its image is known.
func loggedDigest(ctx context.Context, id string) (string, error) {
	admin, err := rpc.Dial(ctx, "/run/cima-admin/admin.sock")
	if err != nil {
		return "", err
	}
	defer admin.Close()
	for ctx.Err() == nil {
		list, err := admin.ListContainers(ctx)
		if err != nil {
			return "", err
		}
		for _, c := range list.Containers {
			if c.ID == id && c.LaunchDigest != nil {
				return c.LaunchDigest.String(), nil
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	return "", ctx.Err()
}

// importBusybox makes an image of busybox alone.
func importBusybox(ctx context.Context) error {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("/var/tmp", "image-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	t := tar.NewWriter(f)
	err = t.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(data))})
	if err == nil {
		_, err = t.Write(data)
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	_, err = command(ctx, "docker", "import", f.Name(), digestImage)
	return err
}
