package daemon

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/rpc"
)

// agentKeyName is the key's name in systemd's file-descriptor store.
const agentKeyName = "agent-key"

// agentKey is the key that signs this boot's evidence. It lives in a sealed
// memfd that systemd keeps while the daemon restarts (FDSTORE,
// sd_pid_notify_with_fds(3)), and in no file.
type agentKey struct {
	private ed25519.PrivateKey
	digest  rpc.Digest // SHA-384 of the public key: claims.agent
	memfd   *os.File
}

// newAgentKey makes a key and the memfd that holds its seed.
func newAgentKey() (*agentKey, error) {
	fd, err := unix.MemfdCreate("cima-"+agentKeyName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd for the agent key: %w", err)
	}
	f := os.NewFile(uintptr(fd), agentKeyName)
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails (crypto/rand)
	defer clear(seed)
	if _, err := f.Write(seed); err != nil {
		f.Close()
		return nil, fmt.Errorf("memfd for the agent key: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the agent key: %w", err)
	}
	return loadAgentKey(f)
}

// loadAgentKey reads the key from the memfd that a former run left in the
// store. Anything but a sealed seed is refused, because another program wrote it.
func loadAgentKey(f *os.File) (*agentKey, error) {
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return nil, fmt.Errorf("the stored agent key must be a sealed memfd (seals %#x): %v", got, err)
	}
	seed := make([]byte, ed25519.SeedSize+1)
	defer clear(seed)
	n, err := f.ReadAt(seed, 0)
	if n != ed25519.SeedSize || err != io.EOF {
		return nil, fmt.Errorf("the stored agent key must have %d bytes", ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(seed[:ed25519.SeedSize])
	return &agentKey{
		private: private,
		digest:  sha512.Sum384(private.Public().(ed25519.PublicKey)),
		memfd:   f,
	}, nil
}

func (k *agentKey) public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// store hands the memfd to the service manager, so that the key outlives this
// process. Without one (no NOTIFY_SOCKET) a restart makes a new key.
func (k *agentKey) store() (bool, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return false, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("keep the agent key over restarts: %w", err)
	}
	defer unix.Close(fd)
	// "@" at its head names the abstract namespace; x/sys knows that too.
	message, rights := []byte("FDSTORE=1\nFDNAME="+agentKeyName), unix.UnixRights(int(k.memfd.Fd()))
	if err := unix.Sendmsg(fd, message, rights, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL); err != nil {
		return false, fmt.Errorf("keep the agent key over restarts: %w", err)
	}
	return true, nil
}
