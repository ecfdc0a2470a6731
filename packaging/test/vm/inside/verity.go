package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw/verify"
)

// guardedPrograms are the programs of the test image under fs-verity.
var guardedPrograms = []string{"/bin/busybox", "/cimactl"}

// verityMeasured checks that programs in a layer under fs-verity have its
// digest in their exec events, as it is computed here: next to SHA-384, or
// alone if they are too large to be hashed. A policy may trust either.
func verityMeasured(ctx context.Context, w *world) error {
	for _, e := range []engine{dockerd, dockercru, rootful} {
		if err := e.image(ctx); err != nil {
			return err
		}
		dir, err := finish(e.cmd(ctx, "image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", imageName))
		if err != nil {
			return err
		}
		var want []string
		for _, program := range guardedPrograms {
			digest, err := guard(filepath.Join(strings.TrimSpace(dir), program))
			if err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			want = append(want, digest)
		}
		for _, limit := range []string{"", "max_size = 1048576\n"} {
			err := measuringExecs(ctx, limit, func() error { return e.verityMeasured(ctx, want, limit == "") })
			if err != nil {
				return fmt.Errorf("%s, %s: %w", e.name, strings.TrimSpace("exec "+limit), err)
			}
		}
	}
	return nil
}

func (e engine) verityMeasured(ctx context.Context, want []string, hashed bool) error {
	id, remove, err := e.sleeps(ctx)
	if err != nil {
		return err
	}
	defer remove()
	dir, err := os.MkdirTemp("", "cima-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, policy := filepath.Join(dir, "evidence.json"), filepath.Join(dir, "policy.toml")
	nonce, err := e.evidenceTo(ctx, id, file)
	if err != nil {
		return err
	}
	bundle, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	execs, err := execsIn(bundle)
	if err != nil {
		return err
	}
	var got []string
	for _, x := range execs {
		if (x.SHA384 != "") != hashed {
			return fmt.Errorf("hashed: %t, and the event is %+v", hashed, x)
		}
		got = append(got, x.Verity)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("fs-verity's digests are %q, those in the log %q", want, got)
	}
	values, err := command(ctx, "cimactl", "policy", "init", file, "--trust-root", rootPEM, "--waive", waived)
	if err != nil {
		return err
	}
	values = allowing(values, "", true)
	byVerity := "execs = [\"" + strings.Join(want, `", "`) + "\"]"
	for _, p := range []struct {
		text   string
		trusts bool
	}{
		{values, true},
		{replaceKey(values, "execs", byVerity), true},
		{replaceKey(values, "execs", strings.ReplaceAll(byVerity, want[1], want[0])), false},
	} {
		if err := os.WriteFile(policy, []byte(p.text), 0o600); err != nil {
			return err
		}
		r, err := verdict(ctx, file, nonce, policy)
		if err != nil || (r.Verdict == verify.Trusted) != p.trusts {
			return fmt.Errorf("trusted must be %t: %+v %w under\n%s", p.trusts, r, err, p.text)
		}
	}
	return nil
}

// replaceKey replaces all lines that begin with a key's name by one line.
func replaceKey(text, key, line string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, key+" = ") {
			lines[i] = line
		}
	}
	return strings.Join(lines, "\n")
}

const verityBlock = 4096

// guard enables fs-verity on a file, and computes its digest.
func guard(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	// struct fsverity_enable_arg (linux/fsverity.h)
	arg := struct {
		version, algorithm, blockSize, saltSize uint32
		salt                                    uint64
		signatureSize, _                        uint32
		signature                               uint64
		_                                       [11]uint64
	}{version: 1, algorithm: unix.FS_VERITY_HASH_ALG_SHA256, blockSize: verityBlock}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 && !errors.Is(errno, unix.EEXIST) {
		return "", fmt.Errorf("FS_IOC_ENABLE_VERITY of %s: %w", path, errno)
	}
	data, err := os.ReadFile(path)
	return verityDigest(data), err
}

// verityDigest is the digest of the descriptor that holds the root of the Merkle
// tree (Documentation/filesystems/fsverity.rst, "fs-verity descriptor").
func verityDigest(data []byte) string {
	size := len(data)
	for {
		var level []byte
		for block := range slices.Chunk(data, verityBlock) {
			sum := sha256.Sum256(append(block[:len(block):len(block)], make([]byte, verityBlock-len(block))...))
			level = append(level, sum[:]...)
		}
		if data = level; len(data) == sha256.Size {
			break
		}
	}
	var d [256]byte
	d[0], d[1], d[2] = 1, unix.FS_VERITY_HASH_ALG_SHA256, 12 // version, algorithm, log2 of the block's size
	binary.LittleEndian.PutUint64(d[8:], uint64(size))
	copy(d[16:], data)
	sum := sha256.Sum256(d[:])
	return "sha256:" + hex.EncodeToString(sum[:])
}
