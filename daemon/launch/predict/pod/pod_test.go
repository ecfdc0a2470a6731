package pod

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/launchtest"
	"github.com/cima-project/cima/daemon/launch/predict"
)

func testImage(t testing.TB) predict.Image {
	t.Helper()
	c, err := launch.ParseImageConfig([]byte(`{"config":{"Env":["PATH=/bin"],"Entrypoint":["/entry"],"Cmd":["cmd"],"User":"app:bin"}}`))
	if err != nil {
		t.Fatal(err)
	}
	users, err := predict.ParseUsers([]byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n"), []byte("bin:x:1:root\nwheel:x:10:root,app\n"))
	if err != nil {
		t.Fatal(err)
	}
	return predict.Image{Config: c, Users: users}
}

// manifest is a pod with a container "c": lines of the container, of the pod's spec
// after "---".
func manifest(lines string) []byte {
	container, spec, _ := strings.Cut(lines, "\n---\n")
	text := "kind: Pod\napiVersion: v1\nmetadata: {name: web}\nspec:\n  enableServiceLinks: false\n  automountServiceAccountToken: false\n"
	for line := range strings.Lines(spec) {
		text += "  " + line
	}
	text += "\n  containers:\n  - name: c\n    image: i\n"
	for line := range strings.Lines(container) {
		text += "    " + line
	}
	return []byte(text)
}

func container(lines string) (*predict.Container, error) {
	p, err := Read(manifest(lines))
	if err != nil {
		return nil, err
	}
	return p.Container("c")
}

const plain = `{"arguments":["/entry","cmd"],"working_directory":"/","user":{"uid":1000,"gid":1001,"additional_gids":[10]},
		"namespaces":{"ipc":"joined","network":"joined","uts":"joined"},"environment":[
		{"name":"KUBERNETES_PORT"},{"name":"KUBERNETES_PORT_443_TCP"},{"name":"KUBERNETES_PORT_443_TCP_ADDR"},{"name":"KUBERNETES_PORT_443_TCP_PORT"},{"name":"KUBERNETES_PORT_443_TCP_PROTO"},
		{"name":"KUBERNETES_SERVICE_HOST"},{"name":"KUBERNETES_SERVICE_PORT"},{"name":"KUBERNETES_SERVICE_PORT_HTTPS"}]}`

func TestContainersAsk(t *testing.T) {
	for lines, want := range map[string]string{
		"": `{}`,
		"ports: [{containerPort: 80}]\nlivenessProbe: {exec: {command: [x]}}\nresources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}}\n---\nnodeName: n\ntolerations: [{operator: Exists}]": `{}`,
		"command: [/x, a]":         `{"arguments":["/x","a"]}`,
		"command: [/x]\nargs: [b]": `{"arguments":["/x","b"]}`,
		"args: [b]":                `{"arguments":["/entry","b"]}`,
		"env: [{name: A, value: x}, {name: LD_B, value: '$(A)/$$(A)/$(NO)'}]\nargs: ['$(A)', '$(NO)', 'a$', '$x']": `{"arguments":["/entry","x","$(NO)","a$","$x"],"+environment":[{"name":"A"},{"name":"LD_B","value":"x/$(A)/$(NO)"}]}`,
		"env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]":                                           `{"+environment":[{"name":"A"}]}`,
		"env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]":                                      `{"+environment":[{"name":"A"}]}`,
		"tty: true\nworkingDir: /w":           `{"terminal":true,"working_directory":"/w"}`,
		"\n---\nhostNetwork: true":            `{"namespaces":{"ipc":"joined","network":"host","uts":"host"}}`,
		"\n---\nhostPID: true\nhostIPC: true": `{"namespaces":{"ipc":"host","network":"joined","pid":"host","uts":"joined"}}`,
		"\n---\nshareProcessNamespace: true":  `{"namespaces":{"ipc":"joined","network":"joined","pid":"joined","uts":"joined"}}`,
		"securityContext: {runAsUser: 7, runAsGroup: 8, seccompProfile: {type: Unconfined}}":                 `{"seccomp":"unconfined","user":{"uid":7,"gid":8}}`,
		"\n---\nsecurityContext: {runAsUser: 0, runAsNonRoot: false, fsGroup: 20, supplementalGroups: [21]}": `{"user":{"uid":0,"gid":0,"additional_gids":[1,10,20,21]}}`,
		"\n---\nsecurityContext: {runAsGroup: 5}":                                                            `{"user":{"uid":1000,"gid":5,"additional_gids":[10]}}`,
		"\n---\nsecurityContext: {supplementalGroups: [21], supplementalGroupsPolicy: Strict}":               `{"user":{"uid":1000,"gid":1001,"additional_gids":[21]}}`,
		"securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE, NET_ADMIN]}, seccompProfile: {type: Localhost, localhostProfile: x}}":                                                                                                               `{"no_new_privileges":true,"root_read_only":true,"capabilities":{"added":["CAP_NET_ADMIN"],"dropped":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"]}}`,
		"volumeMounts: [{name: a, mountPath: /a}, {name: b, mountPath: /b}, {name: h, mountPath: /h, readOnly: true, mountPropagation: HostToContainer}, {name: a, mountPath: /s, subPath: x/y}]\n---\nvolumes: [{name: a, emptyDir: {}}, {name: b, configMap: {name: m}}, {name: h, hostPath: {path: /srv/h, type: Directory}}]": `{"members":{"linux.rootfsPropagation":"rslave"},"mounts":[{"destination":"/a","type":"bind","volume":"kubernetes.io~empty-dir/a","engine":true},{"destination":"/b","type":"bind","options":["ro"],"volume":"kubernetes.io~configmap/b","engine":true},{"destination":"/h","type":"bind","options":["ro","rslave"],"source":"/srv/h"},{"destination":"/s","type":"bind","source":"/var/lib/kubelet/pods/{pod}/volume-subpaths/a/c/3"}]}`,
		"\n---\nautomountServiceAccountToken: true": `{"mounts":[{"destination":"/var/run/secrets/kubernetes.io/serviceaccount","type":"bind","options":["ro"],"volume":"kubernetes.io~projected/kube-api-access","engine":true}]}`,
		"volumeMounts: [{name: t, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]\n---\nautomountServiceAccountToken: true\nvolumes: [{name: t, projected: {sources: []}}]": `{"mounts":[{"destination":"/var/run/secrets/kubernetes.io/serviceaccount","type":"bind","options":["ro"],"volume":"kubernetes.io~projected/t","engine":true}]}`,
	} {
		text := string(manifest(lines))
		if strings.Contains(lines, "automountServiceAccountToken") {
			text = strings.Replace(text, "  automountServiceAccountToken: false\n", "", 1)
		}
		if !strings.Contains(lines, "seccompProfile") {
			text = withSeccomp(text)
		}
		p, err := Read([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		c, err := p.Container("c")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := predict.Predict(c, testImage(t), predict.Host{LSM: "none"}, launch.Rules{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(expected(t, want), asked(t, got.Launch.Asked)); diff != "" || len(got.Unknown) > 0 {
			t.Errorf("%s: %v\n%s", text, got.Unknown, diff)
		}
	}
}

// withSeccomp gives the pod the runtime's filter, so that nothing is unknown.
func withSeccomp(text string) string {
	const member = "seccompProfile: {type: RuntimeDefault}"
	if pod := "\n  securityContext: {"; strings.Contains(text, pod) {
		return strings.Replace(text, pod, pod+member+", ", 1)
	}
	return strings.Replace(text, "spec:\n", "spec:\n  securityContext: {"+member+"}\n", 1)
}

// expected is plain with members replaced, and with more variables.
func expected(t *testing.T, want string) map[string]any {
	t.Helper()
	var all map[string]any
	for _, text := range []string{plain, want} {
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
	}
	if more, ok := all["+environment"].([]any); ok {
		list := append(all["environment"].([]any), more...)
		slices.SortFunc(list, func(a, b any) int {
			return strings.Compare(a.(map[string]any)["name"].(string), b.(map[string]any)["name"].(string))
		})
		all["environment"] = list
		delete(all, "+environment")
	}
	return all
}

func asked(t *testing.T, a *launch.Asked) (out map[string]any) {
	t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The launch of a real pod's container is predicted: that of launchtest's bundle, which
// containerd wrote.
func TestRealPod(t *testing.T) {
	manifest := `
kind: Pod
metadata: {name: web}
spec:
  enableServiceLinks: false
  automountServiceAccountToken: true
  containers:
  - name: app
    image: registry.example/app:2
    securityContext: {allowPrivilegeEscalation: false, seccompProfile: {type: Unconfined}}
    volumeMounts: [{name: settings, mountPath: /etc/config}]
  volumes: [{name: settings, configMap: {name: settings}}]
`
	pod, err := Read([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	c, err := pod.Container("app")
	if err != nil {
		t.Fatal(err)
	}
	config, err := launch.ParseImageConfig([]byte(`{"config":{"Env":["PATH=/bin"],"Cmd":["/app"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	users, err := predict.ParseUsers(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := predict.Predict(c, predict.Image{Config: config, Users: users}, predict.Host{LSM: "none"}, launch.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	real := launchtest.Config(t, "cri")
	for _, name := range kubernetesVariables { // the bundle has none: it is of a kubelet without an API server
		launchtest.Add("process.env", name+"=x")(real)
	}
	spec, err := launch.Parse(launchtest.Encode(t, real), "containerd")
	if err != nil {
		t.Fatal(err)
	}
	l, err := launch.Normalise(spec, spec.ID(), launch.Rules{}, launch.Known{Image: config})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asked(t, l.Asked), asked(t, p.Launch.Asked)); diff != "" || len(p.Unknown) > 0 || p.Digest == "" || p.Image.Digest != config.Digest {
		t.Errorf("%v %+v\n%s", p.Unknown, p.Image, diff)
	}
}

func TestWhatCannotBeKnown(t *testing.T) {
	for lines, want := range map[string]string{
		"":                                     "asked.seccomp ?",
		"envFrom: [{configMapRef: {name: x}}]": "asked.environment",
		"env: [{name: LD_X, valueFrom: {secretKeyRef: {name: s, key: k}}}]":                                          "asked.environment LD_X",
		"env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}]":                             "asked.environment A ?",
		"env: [{name: P, value: $(KUBERNETES_SERVICE_HOST)}]":                                                        "asked.environment P",
		"args: [$(KUBERNETES_SERVICE_HOST)]":                                                                         "asked.arguments",
		"volumeDevices: [{name: x, devicePath: /dev/x}]":                                                             "asked.devices",
		"resources: {limits: {nvidia.com/gpu: 1}}":                                                                   "asked",
		"resources: {claims: [{name: x}]}":                                                                           "asked",
		"volumeMounts: [{name: v, mountPath: /v}]\n---\nvolumes: [{name: v, persistentVolumeClaim: {claimName: x}}]": "asked.mounts /v",
		"volumeMounts: [{name: v, mountPath: /v}]\n---\nvolumes: [{name: v, image: {reference: x}}]":                 "asked.mounts /v",
		"volumeMounts: [{name: v, mountPath: /v}]\n---\nvolumes: [{name: v, fc: {lun: 1}}]":                          "asked.mounts /v",
		"volumeMounts: [{name: v, mountPath: /v, subPathExpr: $(A)}]\n---\nvolumes: [{name: v, emptyDir: }]":         "asked.mounts /v",
		"securityContext: {appArmorProfile: {type: Localhost, localhostProfile: x}}":                                 "asked.apparmor ?",
		"securityContext: {seLinuxOptions: {type: x_t}}":                                                             "asked.selinux ?",
		"securityContext: {privileged: true}":                                                                        "asked.capabilities ?",
		"\n---\nhostUsers: false":                                                                                    "asked.members",
		"\n---\nruntimeClassName: kata":                                                                              "asked ?",
	} {
		c, err := container(lines)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		p, err := predict.Predict(c, testImage(t), predict.Host{}, launch.Rules{Public: []string{"P"}})
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		fact, assumed := strings.CutSuffix(want, " ?")
		if i := slices.IndexFunc(p.Unknown, func(u predict.Unknown) bool { return u.Fact == fact }); i < 0 || (p.Unknown[i].Assumed != "") != assumed {
			t.Errorf("%s: %q", lines, p.Unknown)
		}
	}
	p, err := Read([]byte("kind: Pod\nspec: {containers: [{name: c, image: i}]}"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Container("c")
	if err != nil || len(c.Unknown) != 3 {
		t.Errorf("a pod that says nothing: %v, %v", c, err)
	}
	image := testImage(t)
	image.Config.Volumes = []string{"/vol"}
	if got, err := predict.Predict(c, image, predict.Host{}, launch.Rules{}); err != nil || got.Digest != "" {
		t.Errorf("an image's volume: %v, %v", got, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for lines, want := range map[string]string{
		"frobnicate: x":                            "frobnicate: line 11: the field is not known",
		"\n---\nfrobnicate: x":                     "spec: frobnicate",
		"env: [{name: A, value: 1}]":               "in quotes",
		"env: [{value: x}]":                        "have a name",
		"env: [{name: A, x: y}]":                   `"x" is not known`,
		"env: [{name: A, valueFrom: {x: y}}]":      `"x" is not known`,
		"volumeMounts: [{name: v, mountPath: /v}]": `no volume "v"`,
		"volumeMounts: [{name: v, mountPath: v}]\n---\nvolumes: [{name: v}]":                       "absolute",
		"volumeMounts: [{name: v, mountPath: /v, mountPropagation: x}]\n---\nvolumes: [{name: v}]": "propagation",
		"\n---\nvolumes: [{name: v}, {name: v}]":                                                   "two volumes",
		"\n---\nvolumes: [{name: v, emptyDir: {}, configMap: {}}]":                                 "one source",
		"\n---\nvolumes: [{name: a/b}]":                                                            "must have a name",
		"\n---\nvolumes: [{name: v, hostPath: {path: /a, x: y}}]":                                  `"x" is not known`,
		"securityContext: {x: y}":                                                                  `"x" is not known`,
		"securityContext: {runAsUser: x}":                                                          "number",
		"securityContext: {runAsUser: -1}":                                                         "number",
		"securityContext: {capabilities: {x: y}}":                                                  `"x" is not known`,
		"securityContext: {appArmorProfile: {type: x}}":                                            "unknown AppArmor",
		"securityContext: {seccompProfile: {x: y}}":                                                "string",
		"\n---\nsecurityContext: {x: y}":                                                           `"x" is not known`,
		"\n---\nhostNetwork: x":                                                                    "true or false",
		"resources: {x: y}":                                                                        `"x" is not known`,
		"\n---\ninitContainers: [{name: c}]":                                                       `two containers have the name "c"`,
		"\n---\ninitContainers: [{image: c}]":                                                      "must have a name",
	} {
		c, err := container(lines)
		if err == nil {
			_, err = predict.Predict(c, testImage(t), predict.Host{}, launch.Rules{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, and no %q", lines, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                  "no pod",
		"kind: Service":                     `among ["Service"]`,
		"a: b":                              "kind",
		"kind: Pod":                         "no containers",
		"kind: Deployment\nspec: {}":        "no pod",
		"kind: Pod\nspec: {containers: []}": "no containers",
		"kind: Pod\nspec: {containers: [{name: a}]}\n---\nkind: Pod\nspec: {containers: [{name: b}]}": "several pods",
		"- a": "mapping",
	} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, and no %q", text, err, want)
		}
	}
}

func TestWorkloads(t *testing.T) {
	template := "{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/b: localhost/x}}, spec: {initContainers: [{name: a, image: i}], containers: [{name: b, image: j}]}}"
	for _, text := range []string{
		"kind: Deployment\nspec: {template: " + template + "}",
		"kind: ConfigMap\ndata: {a: b}\n---\nkind: CronJob\nspec: {jobTemplate: {spec: {template: " + template + "}}}\n---\n",
	} {
		p, err := Read([]byte(text))
		if err != nil || len(p.Containers()) != 2 || !slices.Contains(p.Containers(), "a") {
			t.Errorf("%s: %v", text, err)
			continue
		}
		c, err := p.Container("b")
		if err != nil || c.Image != "j" || c.Security.AppArmor != "x" {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
		if _, err := p.Container("d"); err == nil || !strings.Contains(err.Error(), `"d"`) {
			t.Error(err)
		}
	}
}

// Any manifest gives an error, or containers that give an error or the same launch each
// time.
func FuzzPod(f *testing.F) {
	f.Add(manifest("command: [$(A)]\nenv: [{name: A, value: x}]"))
	f.Add(manifest("volumeMounts: [{name: v, mountPath: /v, subPath: x}]\n---\nvolumes: [{name: v, hostPath: {path: /x}}]"))
	f.Add([]byte("kind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c}]}}}}}"))
	image := testImage(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Read(text)
		if err != nil {
			return
		}
		for _, name := range p.Containers() {
			var digests []string
			for range 2 {
				c, err := p.Container(name)
				if err != nil {
					return
				}
				got, err := predict.Predict(c, image, predict.Host{}, launch.Rules{})
				if err != nil {
					return
				}
				digests = append(digests, got.Digest)
			}
			if digests[0] != digests[1] {
				t.Fatalf("%q: two digests", text)
			}
		}
	})
}
