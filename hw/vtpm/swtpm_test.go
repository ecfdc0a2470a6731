package vtpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"math/big"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/vtpm"
	"github.com/cima-project/cima/hw/vtpm/vtpmtest"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = 0x81000003

func event(n byte) canonical.Digest { return sha512.Sum384([]byte{n}) }

func read(t *testing.T, tpm *vtpm.TPM, number int) pcr.Value {
	t.Helper()
	v, err := tpm.PCR(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A real TPM extends as package pcr does, in both banks, and begins anew at a boot.
func TestExtend(t *testing.T) {
	m := vtpmtest.Start(t)
	tpm := m.TPM()
	want := pcr.Value{}.WithSHA256([32]byte{}).WithSHA384([48]byte{})
	if got := read(t, tpm, 13); got != want {
		t.Fatalf("at first: %v", got)
	}
	for n := range byte(20) {
		if err := tpm.Extend(t.Context(), 13, event(n)); err != nil {
			t.Fatal(err)
		}
		want = want.Extend(event(n))
		if got := read(t, tpm, 13); got != want {
			t.Fatalf("after %d extends: %v, must be %v", n+1, got, want)
		}
	}
	tpm.Close()
	// The banks that hold no log are not idle.
	for _, alg := range []byte{4, 13} {
		if value := bank(t, m, alg, 13); bytes.Count(value, []byte{0}) == len(value) {
			t.Errorf("the bank %#x was left idle", alg)
		}
	}
	m.Reboot()
	if got := read(t, tpm, 13); got != (pcr.Value{}).WithSHA256([32]byte{}).WithSHA384([48]byte{}) {
		t.Errorf("after a boot: %v", got)
	}
}

// bank reads a PCR of one bank by a command of the test's own.
func bank(t *testing.T, m *vtpmtest.Machine, alg byte, number int) []byte {
	t.Helper()
	conn, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	bits := [3]byte{}
	bits[number/8] = 1 << (number % 8)
	conn.Write([]byte{0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, alg, 3, bits[0], bits[1], bits[2]})
	response := make([]byte, 4096)
	n, err := conn.Read(response)
	if err != nil || n <= 10+4+10+4+2 {
		t.Fatalf("%d bytes: %v", n, err)
	}
	return response[10+4+10+4+2 : n]
}

// A quote is signed by the key, over the data and all PCRs.
func TestQuote(t *testing.T) {
	m := vtpmtest.Start(t)
	m.MakeKey(key)
	tpm := m.TPM()
	if err := tpm.Extend(t.Context(), 13, event(1)); err != nil {
		t.Fatal(err)
	}
	data := sha512.Sum384([]byte("claims"))
	q, err := tpm.Quote(t.Context(), key, data[:])
	if err != nil {
		t.Fatal(err)
	}
	modulus, err := tpm.RSA(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	digest := sha256.Sum256(q.Attest)
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], q.Signature[6:]); err != nil {
		t.Error(err)
	}
	of, _ := read(t, tpm, 13).SHA256()
	if got := vtpm.Quoted(q.PCRs, 13); got != (pcr.Value{}).WithSHA256(of) {
		t.Errorf("PCR 13 is quoted as %v", got)
	}
	if !bytes.Equal(q.PCRs[17*32:][:32], bytes.Repeat([]byte{0xff}, 32)) {
		t.Errorf("PCR 17 is %x", q.PCRs[17*32:][:32])
	}
	attest, err := vtpm.ReadAttest(q.Attest)
	if err != nil || attest.Covers(q.PCRs) != nil {
		t.Fatalf("%v, %v", err, attest.Covers(q.PCRs))
	}
	q.PCRs[5] ^= 1
	if attest.Covers(q.PCRs) == nil || attest.Covers(q.PCRs[:32]) == nil || attest.Covers(nil) == nil {
		t.Error("other values are covered")
	}
	if _, err := tpm.Quote(t.Context(), key, make([]byte, 51)); err == nil {
		t.Error("51 bytes are quoted")
	}
	absent(t, "quote by a key that is not there", func() error { _, err := tpm.Quote(t.Context(), key+1, data[:]); return err }())
	absent(t, "read a key that is not there", func() error { _, err := tpm.RSA(t.Context(), key+1); return err }())
}

func absent(t *testing.T, what string, err error) {
	t.Helper()
	if refused, is := errors.AsType[*vtpm.ResponseError](err); !is || !refused.Absent() {
		t.Errorf("%s: %v", what, err)
	}
}

// Quotes go on while others extend: each is over values that belong together.
func TestQuoteWhileOthersExtend(t *testing.T) {
	m := vtpmtest.Start(t)
	m.MakeKey(key)
	tpm := m.TPM()
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for n := range byte(50) {
				if err := tpm.Extend(t.Context(), 13, event(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range byte(5) {
		q, err := tpm.Quote(t.Context(), key, []byte{n})
		if err != nil { // it says so, and gives no quote
			t.Log(err)
			continue
		}
		attest, err := vtpm.ReadAttest(q.Attest)
		if err != nil || attest.Covers(q.PCRs) != nil {
			t.Errorf("%v, %v", err, attest.Covers(q.PCRs))
		}
	}
	others.Wait()
}

func TestNV(t *testing.T) {
	const index = 0x01400001
	m := vtpmtest.Start(t)
	content := bytes.Repeat([]byte("HCLA report of this boot\n"), 60)
	m.MakeNV(index, content)
	tpm := m.TPM()
	if got, err := tpm.NV(t.Context(), index, len(content)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, must be %d: %v", len(got), len(content), err)
	}
	if _, err := tpm.NV(t.Context(), index, len(content)-1); err == nil {
		t.Error("it reads beyond its limit")
	}
	_, err := tpm.NV(t.Context(), index+1, 100)
	absent(t, "read an index that is not there", err)
}

// Root resets PCR 16, and can't reset what package pcr allows for a log.
func TestReset(t *testing.T) {
	m := vtpmtest.Start(t)
	const reset = 0x13d
	for number := range 24 {
		rc, _ := m.Command(reset, []uint32{uint32(number)}, nil)
		if can := rc == 0; can && pcr.May(number) == nil {
			t.Errorf("PCR %d may hold a log, and root resets it", number)
		} else if number == 16 && !can {
			t.Errorf("PCR 16: %#x", rc)
		}
	}
}

// A TPM that went away is connected to again.
func TestReconnects(t *testing.T) {
	m := vtpmtest.Start(t)
	tpm := m.TPM()
	read(t, tpm, 13)
	m.Reboot()
	if _, err := tpm.PCR(t.Context(), 13); err == nil {
		t.Error("a connection that ended is still read")
	}
	read(t, tpm, 13)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tpm.PCR(ctx, 13); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
	read(t, tpm, 13)
}
