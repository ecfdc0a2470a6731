package api

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// rpc.discover on a socket describes that socket's method table: no method
// more, none less, and container_id where a container may be named.
func TestDiscoveryIsTheMethodTable(t *testing.T) {
	f := newFixture(t)
	admin, err := rpc.Dial(t.Context(), filepath.Join(f.dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, tt := range []struct {
		socket string
		client *rpc.Client
		table  []server.Method
		named  int // methods that take container_id
	}{
		{"caller", f.client(), f.api.callerMethods(), 0},
		{"admin", admin, f.api.adminMethods(), len(methods())},
		{"look-up", f.dial("lookup.sock"), lookup{f.api}.methods(), 0},
	} {
		raw, err := tt.client.Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var document struct {
			Methods []struct {
				Name, Summary string
				Params        []struct {
					Name     string
					Required bool
				}
				Result struct{ Schema map[string]any }
			}
		}
		if err := json.Unmarshal(raw, &document); err != nil {
			t.Fatal(err)
		}
		var listed []string
		named := 0
		for _, m := range document.Methods {
			listed = append(listed, m.Name)
			if m.Summary == "" || len(m.Result.Schema) == 0 {
				t.Errorf("%s socket: %s has no summary, or no result", tt.socket, m.Name)
			}
			for _, p := range m.Params {
				if p.Name == "container_id" && !p.Required {
					named++
				}
			}
			// The method must exist: with no parameters its answer must not be
			// that it is unknown.
			err := tt.client.Call(t.Context(), m.Name, nil, nil)
			var e *rpc.Error
			if errors.As(err, &e) && e.Code == rpc.CodeMethodNotFound {
				t.Errorf("%s socket: %s is listed, but does not exist", tt.socket, m.Name)
			}
		}
		slices.Sort(listed)
		// It doesn't list itself.
		if want := slices.DeleteFunc(namesOf(tt.table), func(name string) bool { return name == rpc.MethodDiscover }); !slices.Equal(listed, want) {
			t.Errorf("%s socket lists %q, and has %q", tt.socket, listed, want)
		}
		if named != tt.named {
			t.Errorf("%s socket: %d methods take container_id, not %d", tt.socket, named, tt.named)
		}
	}
}

func namesOf(table []server.Method) (names []string) {
	for _, m := range table {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// Methods are counted and listed by the names that both sockets answer.
func TestMethodNames(t *testing.T) {
	d := new(API)
	names := methodNames()
	slices.Sort(names)
	if want := namesOf(d.adminMethods()); !slices.Equal(names, want) {
		t.Errorf("got %q, and the admin socket has %q", names, want)
	}
}
