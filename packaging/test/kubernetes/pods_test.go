package kubernetes

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil && os.Geteuid() == 0 {
		fmt.Fprintln(os.Stderr, "no namespaces of the test's own:", err)
	}
	os.Exit(m.Run())
}

func find(t *testing.T, store *records.Store, id string) records.Record {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		all, err := store.List(context.Background())
		if i := slices.IndexFunc(all, func(r records.Record) bool { return r.ID == id && r.InitPID > 0 }); i >= 0 {
			if all[i].Err != nil {
				t.Fatal(all[i].Err)
			}
			return all[i]
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("no record of %s: %v", id, err)
		}
	}
}

// A pod that containerd's CRI plugin made: its image is known by the digest of its
// configuration while containerd runs and holds its database, its pod by the plugin's own
// word, and both have their place: the image in the launch digest, the pod in no digest.
func TestPodOfContainerd(t *testing.T) {
	n := newNode(t)
	store, client := records.New(records.Options{}), engines.New(engines.Options{})
	var digests []string
	for i, name := range []string{"web-1", "web-2"} {
		sandbox, config := n.pod(name)
		r := find(t, store, n.container(sandbox, config, &cri.KeyValue{Key: "MODE", Value: []byte("test")}, &cri.KeyValue{Key: "OWN", Value: []byte(name)}))
		want := launch.Pod{Namespace: "prod", Name: name, UID: "0b7c3f51-1111-2222-3333-4444" + fmt.Sprint(i+1), Container: "app"}
		if r.Runtime != "containerd" || r.Launch.Pod != want {
			t.Errorf("%s: %+v, want %+v", r.Runtime, r.Launch.Pod, want)
		}
		image, err := client.Image(context.Background(), r)
		if err != nil || image.Reference != app || image.Digest == "" || len(image.Layers) != 1 || r.Launch.ImageConfig != image.Digest {
			t.Errorf("%+v, %q: %v", image, r.Launch.ImageConfig, err)
		}
		is, err := n.images.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: app}})
		if err != nil || is.Image == nil || is.Image.Id != image.Digest {
			t.Errorf("the plugin says %v, %v", is, err)
		}
		if env := r.Launch.Asked.Environment; len(env) != 1 || env[0].Name != "OWN" {
			t.Errorf("asked beyond what the image has: %+v", env)
		}
		l, err := store.Measure(context.Background(), r)
		if err != nil || l.Entrypoint == nil || l.Entrypoint.SHA384 == "" {
			t.Errorf("%+v, %v", l.Entrypoint, err)
		}
		digest, err := launch.Digest(l, image)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, hex.EncodeToString(digest[:]))
		first := find(t, store, sandbox)
		if want.Container = ""; first.Launch.Pod != want {
			t.Errorf("the pod's first container: %+v", first.Launch.Pod)
		}
		if classes, err := store.Power(context.Background(), r); err != nil {
			t.Error(err)
		} else {
			t.Logf("%s: %v", name, classes)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("two pods of one template have two launch digests: %v", digests)
	}
}
