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

// proofOf gets a genuine answer of a container to a nonce's frame.
func proofOf(at string, challenge []byte) ([]byte, error) {
	nc, err := net.Dial("unix", at)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	c := tls.Client(nc, settings())
	if _, err := c.Write(challenge); err != nil {
		return nil, err
	}
	tree, err := readFrame(c)
	if err != nil {
		return nil, err
	}
	evidence, err := readFrame(c)
	return append(tree, evidence...), err
}

// impostor listens, and answers each victim with what answer gives.
func (s *stage) impostor(name string, key tls.Certificate, answer func(challenge []byte) ([]byte, error)) (at string, closed func(), err error) {
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
				if proof, err := answer(challenge); err == nil {
					c.Write(proof)
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
	relayed := func(at string) func([]byte) ([]byte, error) {
		return func(challenge []byte) ([]byte, error) { return proofOf(at, challenge) }
	}
	for _, a := range []struct {
		name, of string
		share    int // of 10
		key      tls.Certificate
		answer   func([]byte) ([]byte, error)
	}{
		{"relayed, own key", "one", 3, own, relayed(s.at["one"])},
		{"relayed, copied key", "keyed", 2, s.key, relayed(s.at["keyed"])},
		{"replayed", "one", 2, own, func([]byte) ([]byte, error) { return old, nil }},
	} {
		at, closed, err := s.impostor(fmt.Sprintf("%.6s%d", a.name, a.share), a.key, a.answer)
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
	l, err := atls.Server{Prover: atls.NewProver(client), Appraiser: s.appraiser("one"), Refused: func(_ net.Addr, err error) { refusals <- err }}.Listen(below)
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
	proof, err := proofOf(s.at["one"], theirs)
	if err != nil {
		return false, err
	}
	c.Write(append(theirs, proof...))
	for range 2 { // the server's own evidence
		if _, err := readFrame(c); err != nil {
			return false, err
		}
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
