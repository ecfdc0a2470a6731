package predict

import (
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/compose"
	"github.com/cima-project/cima/daemon/launch/predict/pod"
	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// container reads what is asked of the engine.
func (f *flags) container(source string) (*predict.Container, error) {
	given := *f.from[source]
	if source == "run" {
		c, err := predict.Line(given, filesBelow("."))
		return c, malformed(err)
	}
	text, err := command.ReadBounded(given, strictyaml.MaxBytes)
	if err != nil {
		return nil, err
	}
	var names []string
	var one func(name string) (*predict.Container, error)
	if source == "compose" {
		var file *compose.File
		if file, err = compose.Read(text, f.project, filesBelow(filepath.Dir(given))); err == nil {
			names, one = file.Services(), file.Container
		}
	} else {
		var manifest *pod.Pod
		if manifest, err = pod.Read(text); err == nil {
			names, one = manifest.Containers(), manifest.Container
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", given, err)
		if isUnit(text) {
			return nil, &command.Failure{Err: err, Code: command.Malformed,
				Hint: "it looks like a unit of systemd: for one of Quadlet, give podman's line as --run; podman-system-generator --dryrun prints it"}
		}
		return nil, malformed(err)
	}
	name := f.service
	switch {
	case name != "":
	case len(names) > 1:
		return nil, fmt.Errorf("%s has %q: name one by --service", given, names)
	default:
		name = names[0]
	}
	c, err := one(name)
	if err != nil {
		return nil, malformed(fmt.Errorf("%s: %w", given, err))
	}
	return c, nil
}

// isUnit reports whether a file has a section of systemd's or Quadlet's.
func isUnit(text []byte) bool {
	return regexp.MustCompile(`(?m)^\[(Unit|Container|Pod|Kube|Install|Service)\]\s*$`).Match(text)
}

// filesBelow reads files by names that are relative to a directory.
func filesBelow(dir string) predict.Files {
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return command.ReadBounded(name, launch.MaxConfig)
	}
}
