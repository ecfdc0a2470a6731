package atls

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json/jsontext"
	json "encoding/json/v2"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle stands for evidence: who it is of, what a quote binds, and logs.
type bundle struct {
	Claims     claims   `json:"claims"`
	Nonce      []byte   `json:"nonce"`
	UserData   []byte   `json:"user_data"`
	BootLog    string   `json:"boot_log"`
	OSLogs     []string `json:"os_logs,omitempty"`
	RuntimeLog []string `json:"runtime_log"`
}

type claims struct {
	Container identity `json:"container"`
}

type identity struct {
	ID string `json:"id"`
}

// container is a daemon as one container sees it.
type container struct {
	name string
	wait <-chan struct{} // a quote takes until then

	mu     sync.Mutex
	calls  int
	errors []error // of the next calls
	logs   []string
}

func (d *container) GetEvidence(ctx context.Context, p rpc.EvidenceParams) (jsontext.Value, error) {
	d.mu.Lock()
	d.calls++
	var err error
	if len(d.errors) > 0 {
		err, d.errors = d.errors[0], d.errors[1:]
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if d.wait != nil {
		select {
		case <-d.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return json.Marshal(bundle{Claims: claims{identity{d.name}}, Nonce: p.Nonce, UserData: p.UserData, BootLog: "of " + d.name, RuntimeLog: d.logs})
}

func (d *container) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

var errRefused = errors.New("not the container of the policy")

// only takes evidence of one container, with the nonce and user data that it must have.
type only string

func (name only) Appraise(_ context.Context, evidence, nonce, userData []byte) error {
	var b bundle
	if err := json.Unmarshal(evidence, &b); err != nil {
		return err
	}
	if b.Claims.Container.ID != string(name) || !bytes.Equal(b.Nonce, nonce) || !bytes.Equal(b.UserData, userData) {
		return errRefused
	}
	return nil
}

// serving listens, and answers each session with greeting, then with what it reads.
func serving(t *testing.T, s Server) (address string, refusals <-chan error) {
	t.Helper()
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 64)
	s.Refused = func(_ net.Addr, err error) {
		select {
		case refused <- err:
		default:
		}
	}
	l, err := s.Listen(below)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				io.WriteString(c, greeting)
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String(), refused
}

const greeting = "a secret of the program"

func server1(t *testing.T) string {
	address, _ := serving(t, Server{Prover: tree.NewProver(&container{name: "a"})})
	return address
}

// greeted dials, and returns what the program says first.
func greeted(t *testing.T, d *Dialer, address string) (string, error) {
	t.Helper()
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	text := make([]byte, len(greeting))
	_, err = io.ReadFull(c, text)
	return string(text), err
}

// raw is a session without this package's ends: an attacker's.
func raw(t *testing.T, address string, s *tls.Config) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", address, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func ours() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}, MinVersion: tls.VersionTLS13}
}

func readFrame(c io.Reader) (kind, []byte, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		return 0, nil, err
	}
	k, n, err := header(h[:])
	if err != nil {
		return 0, nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(c, b)
	return k, b, err
}

// nothing is what a frame says of an end that has no logs.
var nothing = frame(nil, frameLacking, make([]byte, standSize))

// answers are a server's frames: place, report and all logs.
func answers(t *testing.T, c io.ReadWriter) (frames [][]byte) {
	t.Helper()
	for _, want := range []kind{frameTree, frameReport, frameLogs} {
		k, body, err := readFrame(c)
		if err != nil || k != want {
			t.Fatalf("a frame of the kind %d, %v, want %d", k, err, want)
		}
		if k == frameReport {
			c.Write(nothing)
		}
		frames = append(frames, frame(nil, k, body))
	}
	return frames
}

// exhaustion is what accept(2) says when descriptors are short.
const exhaustion = syscall.EMFILE
