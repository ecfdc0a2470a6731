package kubernetes

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/pod"
)

// decode reads manifests as strictly as an API server with --validate=strict: an unknown
// field, or one that is there twice, is an error.
func decode(t *testing.T, text string) (all []runtime.Object) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for r := yamlutil.NewDocumentDecoder(io.NopCloser(strings.NewReader(text))); ; {
		document := make([]byte, 1<<20)
		n, err := r.Read(document)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(document[:n])) == 0 {
			continue
		}
		object, _, err := strict.Decode(document[:n], nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, document[:n])
		}
		all = append(all, object)
	}
}

func podSpec(t *testing.T, o runtime.Object) *core.PodSpec {
	t.Helper()
	switch o := o.(type) {
	case *core.Pod:
		return &o.Spec
	case *apps.DaemonSet:
		if !maps.Equal(o.Spec.Selector.MatchLabels, o.Spec.Template.Labels) {
			t.Errorf("the selector %v selects other pods than %v", o.Spec.Selector.MatchLabels, o.Spec.Template.Labels)
		}
		return &o.Spec.Template.Spec
	}
	t.Fatalf("a %T has no pod", o)
	return nil
}

const resource = "cima-project.github.io/agent"

// hardened checks what all of our pods have: nothing in them differs from start to start,
// no container is more than it needs, each mount is of a volume and CIMA's is read-only.
func hardened(t *testing.T, spec *core.PodSpec) {
	t.Helper()
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks || spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Error("enableServiceLinks and automountServiceAccountToken must be false")
	}
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range spec.Containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Privileged != nil || s.Capabilities == nil ||
			len(s.Capabilities.Add) > 0 || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) ||
			s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault || s.RunAsUser == nil {
			t.Errorf("container %s may do more than it needs: %+v", c.Name, s)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("container %s mounts %s, which is no volume", c.Name, m.Name)
			}
			if m.Name == "cima" && !m.ReadOnly {
				t.Error("CIMA's directory must be read-only")
			}
		}
	}
}

// restricted reports what the level "restricted" of Pod Security Admission refuses.
func restricted(spec *core.PodSpec) (refused []string) {
	for _, v := range spec.Volumes {
		if v.HostPath != nil {
			refused = append(refused, "hostPath "+v.HostPath.Path)
		}
	}
	for _, c := range spec.Containers {
		if c.SecurityContext.RunAsNonRoot == nil || !*c.SecurityContext.RunAsNonRoot {
			refused = append(refused, "root")
		}
	}
	return refused
}

// The examples are what the API server takes, and what cimactl predict understands.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../../kubernetes/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all := decode(t, string(text))
			if len(all) != 1 {
				t.Fatalf("%d objects", len(all))
			}
			spec := podSpec(t, all[0])
			hardened(t, spec)
			if refused := restricted(spec); (len(refused) == 0) != strings.HasSuffix(file, "-restricted.yaml") {
				t.Errorf("the level restricted refuses %q", refused)
			}
			p, err := pod.Read(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range p.Containers() {
				if _, err := p.Container(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What the example pod asks for is known before it runs, all of it.
func TestExamplePodIsPredicted(t *testing.T) {
	text, err := os.ReadFile("../../kubernetes/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pod.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Container("app")
	if err != nil {
		t.Fatal(err)
	}
	config, err := launch.ParseImageConfig([]byte(`{"config":{"Env":["PATH=/bin"],"Cmd":["bash"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	users, err := predict.ParseUsers([]byte("nobody:x:65534:65534::/:/bin/false\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := predict.Predict(c, predict.Image{Config: config, Users: users}, predict.Host{LSM: "none"}, launch.Rules{})
	if err != nil || len(got.Unknown) > 0 || got.Digest == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// The chart, in each of its ways, by Helm's own engine and schema.
func TestChart(t *testing.T) {
	c, err := loader.Load("../../kubernetes/chart")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	render := func(values map[string]any) (map[string]string, error) {
		all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "cima", Namespace: "kube-system"}, chartutil.DefaultCapabilities)
		if err != nil {
			return nil, err
		}
		return engine.Engine{Strict: true}.Render(c, all)
	}
	for mount, want := range map[string]int{"device": 2, "cdi": 2, "hostPath": 1} {
		t.Run(mount, func(t *testing.T) {
			out, err := render(map[string]any{"mount": mount, "count": 7, "tolerations": []any{map[string]any{"operator": "Exists"}}})
			if err != nil {
				t.Fatal(err)
			}
			var objects []runtime.Object
			for _, name := range slices.Sorted(maps.Keys(out)) {
				if strings.HasSuffix(name, ".yaml") {
					objects = append(objects, decode(t, out[name])...)
				}
			}
			if len(objects) != want {
				t.Fatalf("%d objects, want %d", len(objects), want)
			}
			for _, o := range objects {
				spec := podSpec(t, o)
				hardened(t, spec)
				if image := spec.Containers[0].Image; !strings.HasSuffix(image, ":"+c.Metadata.AppVersion) {
					t.Errorf("the image %s must have the chart's appVersion as its tag, for no other is given", image)
				}
				if len(spec.Tolerations) != 1 || spec.NodeSelector["cima-project.github.io/tdx"] != "true" {
					t.Errorf("%T: %+v %v", o, spec.Tolerations, spec.NodeSelector)
				}
				switch o.(type) {
				case *apps.DaemonSet:
					args := spec.Containers[0].Args
					if want := []string{"-count=7", "-sockets=/run/cima", "-kubelet=/var/lib/kubelet/device-plugins", "-cdi=" + fmt.Sprint(mount == "cdi")}; !slices.Equal(args, want) {
						t.Errorf("%q, want %q", args, want)
					}
				case *core.Pod:
					_, asks := spec.Containers[0].Resources.Limits[resource]
					if asks != (mount != "hostPath") || (len(restricted(spec)) == 0) != asks || (len(spec.Containers[0].VolumeMounts) == 0) != asks || (len(spec.Containers[0].Env) == 0) != asks {
						t.Errorf("%+v", spec)
					}
				}
			}
		})
	}
	tagged, err := render(map[string]any{"image": map[string]any{"tag": "mine"}, "test": map[string]any{"tag": "mine"}})
	if text := fmt.Sprint(tagged); err != nil || !strings.Contains(text, "cima-device-plugin:mine\"") || !strings.Contains(text, "cimactl:mine\"") {
		t.Errorf("a tag that is given must be the images': %v %s", err, text)
	}
	for name, wrong := range map[string]map[string]any{
		"another way":      {"mount": "hostpath"},
		"an unknown value": {"mounts": "device"},
		"no number":        {"count": 0},
		"a relative path":  {"sockets": "run/cima"},
	} {
		if _, err := render(wrong); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
