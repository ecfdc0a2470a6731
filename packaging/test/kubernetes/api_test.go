//go:build kubelet

package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// api is what a kubelet needs of an API server: it keeps objects, lists them, and tells of
// changes. It decides nothing, schedules nothing and asks nobody who he is.
type api struct {
	mu      sync.Mutex
	at      int // the version of the newest object
	objects map[place]object
	ended   context.Context
}

type object struct {
	version int
	text    map[string]any
}

// place is where an object is: /api/v1/namespaces/NAMESPACE/RESOURCE/NAME.
type place struct{ group, namespace, resource, name string }

// newAPI serves until the test ends.
func newAPI(t *testing.T) (*api, string) {
	t.Helper()
	a := &api{objects: map[place]object{}, ended: t.Context()}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return a, s.URL
}

// keep puts an object of the core group into the cluster.
func (a *api) keep(t *testing.T, resource string, o any) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]any
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	about := kept["metadata"].(map[string]any)
	namespace, _ := about["namespace"].(string)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set(place{"v1", namespace, resource, about["name"].(string)}, kept)
}

func (a *api) set(at place, o map[string]any) {
	a.at++
	o["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(a.at)
	a.objects[at] = object{a.at, o}
}

// placeOf reads a path.
func placeOf(path string) (p place) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	n := 2 // api/v1
	if parts[0] == "apis" {
		n = 3
	}
	n = min(n, len(parts))
	p.group, parts = strings.Join(parts[1:n], "/"), parts[n:]
	if len(parts) > 2 && parts[0] == "namespaces" {
		p.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 0 {
		p.resource = parts[0]
	}
	if len(parts) > 1 {
		p.name = parts[1]
	}
	return p
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := placeOf(r.URL.Path)
	if r.Method == "GET" && at.name == "" && r.URL.Query().Has("watch") {
		a.watch(w, r, at)
		return
	}
	body, err := io.ReadAll(r.Body)
	var given map[string]any
	if err != nil || len(body) > 0 && json.Unmarshal(body, &given) != nil {
		a.answer(w, http.StatusBadRequest, nil)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case r.Method == "GET" && at.name == "":
		items := []any{}
		for _, o := range a.since(0, at) {
			items = append(items, o.text)
		}
		kinds := map[string]string{"nodes": "NodeList", "pods": "PodList", "services": "ServiceList"}
		list := map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(a.at)}, "items": items}
		if kind := kinds[at.resource]; kind != "" { // of the others the client knows it
			list["kind"], list["apiVersion"] = kind, at.group
		}
		a.answer(w, http.StatusOK, list)
		return
	case r.Method == "POST" && given["metadata"] != nil:
		about := given["metadata"].(map[string]any)
		at.name, _ = about["name"].(string)
		a.set(at, given)
	case r.Method == "PUT" && given["metadata"] != nil:
		a.set(at, given)
	case r.Method == "PATCH" && a.objects[at].text != nil:
		if err := a.patch(at, body); err != nil {
			a.answer(w, http.StatusBadRequest, nil)
			return
		}
	case r.Method == "DELETE":
		delete(a.objects, at)
	}
	if o, is := a.objects[at]; is {
		a.answer(w, http.StatusOK, o.text)
	} else {
		a.answer(w, http.StatusNotFound, nil)
	}
}

func (a *api) patch(at place, patch []byte) error {
	kinds := map[string]any{"nodes": core.Node{}, "pods": core.Pod{}}
	if kinds[at.resource] == nil {
		return nil
	}
	before, err := json.Marshal(a.objects[at].text)
	if err != nil {
		return err
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, kinds[at.resource])
	if err != nil {
		return err
	}
	var o map[string]any
	if err := json.Unmarshal(after, &o); err != nil {
		return err
	}
	a.set(at, o)
	return nil
}

// since are the objects of a resource that are newer than a version.
func (a *api) since(version int, of place) (all []object) {
	for at, o := range a.objects {
		if o.version > version && at.group == of.group && at.resource == of.resource && (of.namespace == "" || of.namespace == at.namespace) {
			all = append(all, o)
		}
	}
	return all
}

// watch tells of each change until nobody listens.
func (a *api) watch(w http.ResponseWriter, r *http.Request, of place) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	told := 0
	for out := json.NewEncoder(w); r.Context().Err() == nil && a.ended.Err() == nil; time.Sleep(200 * time.Millisecond) {
		a.mu.Lock()
		for _, o := range a.since(told, of) {
			out.Encode(map[string]any{"type": "MODIFIED", "object": o.text})
		}
		told = a.at
		a.mu.Unlock()
		http.NewResponseController(w).Flush()
	}
}

func (a *api) answer(w http.ResponseWriter, status int, o map[string]any) {
	if o == nil {
		reason := map[int]string{http.StatusNotFound: "NotFound", http.StatusBadRequest: "BadRequest"}[status]
		o = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(o)
}
