package engines

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReference(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for name, want := range map[string]string{
		"bb":                                 "docker.io/library/bb:latest",
		"bb:1":                               "docker.io/library/bb:1",
		"user/bb":                            "docker.io/user/bb:latest",
		"docker.io/bb":                       "docker.io/library/bb:latest",
		"index.docker.io/bb:1":               "docker.io/library/bb:1",
		"docker.io/library/bb:1":             "docker.io/library/bb:1",
		"localhost/bb:1":                     "localhost/bb:1",
		"registry.example/a/b/c":             "registry.example/a/b/c:latest",
		"host:5000/bb":                       "host:5000/bb:latest",
		"host:5000/bb:1":                     "host:5000/bb:1",
		"bb@" + digest:                       "docker.io/library/bb@" + digest,
		"bb:1@" + digest:                     "docker.io/library/bb:1@" + digest,
		"docker://quay.io/x/y:2":             "quay.io/x/y:2",
		strings.Repeat("ab", 32):             "",
		"sha256:" + strings.Repeat("ab", 32): "",
		"":                                   "",
	} {
		if got := reference(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// host is a tree of files with a client that looks for sockets there.
type host struct {
	*testing.T
	dir    string
	client *Client
}

// newHost makes a host whose root is the user who runs the test.
func newHost(t *testing.T) *host {
	t.Helper()
	x := &host{T: t, dir: trustedDir(t)}
	x.client = New(Options{Engines: []Engine{{"docker", x.dir + "/docker.sock"}}, Storage: []string{x.dir + "/storage"}})
	x.client.storage.Trust.Root = uint32(os.Getuid())
	return x
}

func (x *host) write(name string, content []byte) {
	x.Helper()
	file := filepath.Join(x.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
		x.Fatal(err)
	}
}

// engine answers on the host's docker.sock.
func (x *host) engine(answers map[string]string) {
	x.Helper()
	listener, err := net.Listen("unix", filepath.Join(x.dir, "docker.sock"))
	if err != nil {
		x.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		switch {
		case !ok:
			http.NotFound(w, r)
		case answer == "hang":
			<-r.Context().Done()
		default:
			fmt.Fprint(w, answer)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	x.Cleanup(func() { server.Close(); <-done })
}

// errAny stands for an error that is neither ErrNotReady nor ErrNoEngine.
var errAny = errors.New("any other error")

func checkError(t *testing.T, err, want error) {
	t.Helper()
	switch {
	case want == nil && err != nil, want != nil && err == nil:
		t.Errorf("error %v, want %v", err, want)
	case errors.Is(want, errAny) && (errors.Is(err, errNotReady) || errors.Is(err, ErrNoEngine)):
		t.Errorf("error %v would be asked again", err)
	case want != nil && !errors.Is(want, errAny) && !errors.Is(err, want):
		t.Errorf("error %v, want %v", err, want)
	}
}
