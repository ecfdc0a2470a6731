package pod

import (
	"fmt"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

// volume is where the kubelet has a volume of the pod's.
type volume struct {
	kind, source string // as in predict.Mount
	readOnly     bool
	unknown      string // why it can't be known where it is
}

// plugins are the kubelet's directories of volumes that have the volume's name.
var plugins = map[string]string{
	"emptyDir": "empty-dir", "configMap": "configmap", "secret": "secret", "downwardAPI": "downward-api", "projected": "projected",
	"nfs": "nfs", "gitRepo": "git-repo",
}

// always are those that the kubelet mounts read-only, whatever is asked for.
var always = []string{"configMap", "secret", "downwardAPI", "projected"}

func (p *Pod) takeVolumes(v *strictyaml.Value) error {
	items, err := v.List()
	for _, i := range items {
		o, err := i.Object()
		if err != nil {
			return err
		}
		name, err := o.Take("name").Text()
		if err != nil || name == "" || strings.Contains(name, "/") {
			return i.Errorf("a volume must have a name")
		}
		if _, ok := p.volumes[name]; ok {
			return i.Errorf("two volumes have the name %q", name)
		}
		kinds := o.Names()
		if len(kinds) == 0 {
			kinds = []string{"emptyDir"}
		}
		if len(kinds) > 1 {
			return i.Errorf("volume %s must have one source, not %q", name, kinds)
		}
		if p.volumes[name], err = source(name, kinds[0], o.Take(kinds[0])); err != nil {
			return i.Errorf("volume %s: %w", name, err)
		}
	}
	return err
}

func source(name, kind string, v *strictyaml.Value) (volume, error) {
	switch directory, ok := plugins[kind]; {
	case ok:
		readOnly := false
		for _, k := range always {
			readOnly = readOnly || k == kind
		}
		return volume{kind: "pod", source: "volumes/kubernetes.io~" + directory + "/" + name, readOnly: readOnly}, nil
	case kind == "hostPath":
		o, err := v.Object()
		if err != nil {
			return volume{}, err
		}
		of, err := o.Take("path").Text()
		o.Take("type")
		if err == nil {
			err = o.End()
		}
		return volume{kind: "bind", source: of}, err
	case kind == "csi":
		return volume{kind: "pod", source: "volumes/kubernetes.io~csi/" + name + "/mount"}, nil
	case kind == "persistentVolumeClaim" || kind == "ephemeral":
		return volume{unknown: "the cluster says which volume it claims"}, nil
	case kind == "image":
		return volume{unknown: "containerd mounts the image by directories of its own"}, nil
	}
	return volume{unknown: fmt.Sprintf("%s: where the kubelet has it is not known here", kind)}, nil
}
