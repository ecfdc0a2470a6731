package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/hw/verify/peers"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/atls"
	"github.com/cima-project/cima/rpc/tree"
)

// atOnce is how many attacks are under way: each waits for a quote.
const atOnce = 400

// newKey is a key and its certificate in PEM.
func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keyed"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...), err
}

// frames are an attacker's: read, and written again as they came.
func readFrame(c io.Reader) ([]byte, error) {
	h := make([]byte, 5)
	if _, err := io.ReadFull(c, h); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > rpc.MaxEvidence {
		return nil, errors.New("a large frame")
	}
	b := append(h, make([]byte, n)...)
	_, err := io.ReadFull(c, b[5:])
	return b, err
}

func settings(key ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{atls.Protocol}, MinVersion: tls.VersionTLS13, Certificates: key}
}

// answer is what a container's end sends to a nonce: its report, and its logs to who says
// that it has none.
type answer struct{ report, logs []byte }

// nothing is the frame of who has no logs.
var nothing = append([]byte{5, 0, 0, 0, 52}, make([]byte, 52)...)

// proofOf gets a genuine answer of a container to a nonce's frame.
func proofOf(at string, challenge []byte) (a answer, err error) {
	nc, err := net.Dial("unix", at)
	if err != nil {
		return a, err
	}
	defer nc.Close()
	c := tls.Client(nc, settings())
	if _, err := c.Write(challenge); err != nil {
		return a, err
	}
	if a.report, err = two(c); err != nil {
		return a, err
	}
	if _, err := c.Write(nothing); err != nil {
		return a, err
	}
	a.logs, err = readFrame(c)
	return a, err
}

// two are the frames of a report: its place in the tree comes before it.
func two(c io.Reader) ([]byte, error) {
	place, err := readFrame(c)
	if err != nil {
		return nil, err
	}
	report, err := readFrame(c)
	return append(place, report...), err
}

// gives sends an answer as a container does. The logs go to whoever lacks any: an attacker
// hasn't to be polite.
func (a answer) gives(c io.ReadWriter) error {
	if _, err := c.Write(a.report); err != nil {
		return err
	}
	if _, err := readFrame(c); err != nil {
		return err
	}
	_, err := c.Write(a.logs)
	return err
}

// impostor listens, and answers each victim with what answers gives.
func (s *stage) impostor(name string, key tls.Certificate, answers func(challenge []byte) (answer, error)) (at string, closed func(), err error) {
	at = filepath.Join(s.dir, name)
	l, err := net.Listen("unix", at)
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				c := tls.Server(nc, settings(key))
				challenge, err := readFrame(c)
				if err != nil {
					return
				}
				if a, err := answers(challenge); err == nil && a.gives(c) == nil {
					io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return at, func() { l.Close() }, nil
}

// attack tries each way to pass as a container, and counts who was believed.
func (s *stage) attack(ctx context.Context) (wrong []string, err error) {
	text, err := newKey()
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	challenge := append([]byte{2, 0, 0, 0, 32}, make([]byte, 32)...)
	old, err := proofOf(s.at["one"], challenge)
	if err != nil {
		return nil, fmt.Errorf("evidence to replay: %w", err)
	}
	relayed := func(at string) func([]byte) (answer, error) {
		return func(challenge []byte) (answer, error) { return proofOf(at, challenge) }
	}
	for _, a := range []struct {
		name, of string
		share    int // of 10
		key      tls.Certificate
		answers  func([]byte) (answer, error)
	}{
		{"relayed, own key", "one", 3, own, relayed(s.at["one"])},
		{"relayed, copied key", "keyed", 2, s.key, relayed(s.at["keyed"])},
		{"replayed", "one", 2, own, func([]byte) (answer, error) { return old, nil }},
	} {
		at, closed, err := s.impostor(fmt.Sprintf("%.6s%d", a.name, a.share), a.key, a.answers)
		if err != nil {
			return nil, err
		}
		d := &atls.Dialer{Appraiser: s.appraiser(a.of)}
		wrong = append(wrong, tally(a.name, s.attacks*a.share/10, func() error { return session(ctx, d, at) })...)
		closed()
	}
	other := &atls.Dialer{Appraiser: s.appraiser("one")}
	wrong = append(wrong, tally("diverted to another container", s.attacks*2/10, func() error { return session(ctx, other, s.at["two"]) })...)
	roles, err := s.roles(ctx)
	return append(append(wrong, roles...), s.plain()...), err
}

// tally runs an attack many times. A session that fails for another reason than its
// evidence shows nothing, so that it is a fault, too.
func tally(name string, times int, try func() error) (wrong []string) {
	var accepted, refused atomic.Int64
	var mu sync.Mutex
	others := map[string]int{}
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for range times {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			err := try()
			var no *peers.RefusedError
			switch {
			case err == nil:
				accepted.Add(1)
			case errors.As(err, &no):
				refused.Add(1)
			default:
				mu.Lock()
				others[err.Error()]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	say("%s: %d sessions, %d refused for their evidence, %d accepted", name, times, refused.Load(), accepted.Load())
	if accepted.Load() > 0 {
		wrong = append(wrong, fmt.Sprintf("%s: %d accepted", name, accepted.Load()))
	}
	for o, n := range others {
		wrong = append(wrong, fmt.Sprintf("%s: %d ended otherwise: %s", name, n, o))
	}
	return wrong
}

// roles has a server that wants evidence of its clients, and a client that hands it
// what the container "one" said as a server, to the same nonce.
func (s *stage) roles(ctx context.Context) ([]string, error) {
	client, err := rpc.Dialer{Path: socket, Wait: true}.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	at := filepath.Join(s.dir, "roles")
	below, err := net.Listen("unix", at)
	if err != nil {
		return nil, err
	}
	refusals := make(chan error, s.attacks)
	l, err := atls.Server{Prover: tree.NewProver(client), Appraiser: s.appraiser("one"), Refused: func(_ net.Addr, err error) { refusals <- err }}.Listen(below)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go greetAll(l)
	return tally("reflected, other role", s.attacks/10, func() error {
		got, err := s.reflect(at)
		if err != nil || got {
			return err
		}
		return <-refusals
	}), nil
}

// reflect reports whether the server's program said anything.
func (s *stage) reflect(at string) (bool, error) {
	nc, err := net.Dial("unix", at)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	c := tls.Client(nc, settings())
	theirs, err := readFrame(c)
	if err != nil {
		return false, err
	}
	if _, err := c.Write(theirs); err != nil { // at once: the server waits 5 s for a nonce
		return false, err
	}
	proof, err := proofOf(s.at["one"], theirs)
	if err != nil {
		return false, err
	}
	if _, err := two(c); err != nil { // the server's own evidence
		return false, err
	}
	if _, err := c.Write(nothing); err != nil {
		return false, err
	}
	if _, err := readFrame(c); err != nil {
		return false, err
	}
	if err := proof.gives(c); err != nil {
		return false, err
	}
	_, err = readFrame(c)
	return err == nil, nil
}

// plain has clients of TLS that know nothing of the protocol.
func (s *stage) plain() (wrong []string) {
	got, tries := 0, 0
	for _, p := range [][]string{nil, {"http/1.1"}, {"h2", "http/1.1"}, {atls.Protocol}} {
		for range 25 {
			tries++
			nc, err := net.Dial("unix", s.at["one"])
			if err != nil {
				return append(wrong, err.Error())
			}
			c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: p})
			io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			nc.SetDeadline(time.Now().Add(time.Minute))
			b, _ := io.ReadAll(c)
			got += len(b)
			nc.Close()
		}
	}
	say("plain TLS clients: %d sessions, %d bytes", tries, got)
	if got > 0 {
		wrong = append(wrong, fmt.Sprintf("plain TLS clients got %d bytes", got))
	}
	return wrong
}
