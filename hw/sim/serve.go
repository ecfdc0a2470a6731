package sim

import (
	"bufio"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// The protocol of td.sock: a connection for each call; on it one line with a
// request and one line with its reply, both JSON. Limits are in bytes.
const (
	maxRequest  = 64 << 10
	maxReply    = 2*maxBootLog + 4096
	maxCallers  = 256
	lineTimeout = 10 * time.Second
)

// protocol is how both sides write and read: a time.Duration is in nanoseconds.
var protocol = json.JoinOptions(
	json.RejectUnknownMembers(true),
	json.WithMarshalers(json.MarshalToFunc(func(e *jsontext.Encoder, d time.Duration) error {
		return e.WriteToken(jsontext.Int(int64(d)))
	})),
	json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, to *time.Duration) error {
		var n int64
		err := json.UnmarshalDecode(d, &n)
		*to = time.Duration(n)
		return err
	})),
)

type request struct {
	Op     string  `json:"op"`
	Index  int     `json:"index,omitzero"`   // extend: of the RTMR, or of the PCR; registers: of the PCR
	Data   []byte  `json:"data,omitempty"`   // quote: report data; extend: digest
	Faults []Fault `json:"faults,omitempty"` // faults
}

type reply struct {
	Bytes     []byte        `json:"bytes,omitempty"` // quote, boot log, boot id, root, platform; MRTD ‖ RTMR0–3, then with a vTPM a PCR of SHA-256 ‖ of SHA-384
	Errno     syscall.Errno `json:"errno,omitzero"`
	Malformed bool          `json:"malformed,omitzero"` // hw.ErrMalformed
	Error     string        `json:"error,omitempty"`
}

// Listen opens the socket of a simulated TD at path, for Serve. Only its owner
// can connect. The directory must belong to root or the caller, and only they may
// write to it. A socket that no process listens on any more is replaced.
func Listen(path string) (net.Listener, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode of a socket's inode is that of its descriptor before bind.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	return config.Listen(context.Background(), "unix", path)
}

func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || owner != 0 && int(owner) != os.Geteuid() {
		return fmt.Errorf("%s must be a directory of root's or of your own that nobody else can write to", dir)
	}
	return nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s must be a socket; remove the file", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("a simulated TD runs at %s already; use it, or end it first", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Serve answers the calls that arrive at listener until ctx ends. A client that
// dies changes nothing unless its request arrived whole. Callers other than root
// and this process's own user get no answer.
func Serve(ctx context.Context, listener net.Listener, m *Machine) error {
	ctx, cancel := context.WithCancel(ctx)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { listener.Close() })()

	slots := make(chan struct{}, maxCallers)
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED):
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return fmt.Errorf("simulated TD: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		callers.Go(func() {
			defer func() { <-slots }()
			m.serveOne(ctx, conn)
		})
	}
}

// serveOne answers the one call of a connection.
func (m *Machine) serveOne(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer unhook()

	if !mayCall(conn) {
		return
	}
	conn.SetReadDeadline(time.Now().Add(lineTimeout))
	var q request
	if err := readLine(conn, maxRequest, &q); err != nil {
		return // half a line is no request
	}
	conn.SetReadDeadline(time.Time{})
	var watch sync.WaitGroup
	defer watch.Wait()
	defer conn.Close()
	watch.Go(func() { // a caller that goes away stops waiting
		conn.Read(make([]byte, 1))
		cancel()
	})
	line, err := json.Marshal(m.answer(ctx, q), protocol)
	if err != nil {
		return
	}
	unhook()
	conn.SetWriteDeadline(time.Now().Add(lineTimeout))
	conn.Write(append(line, '\n'))
}

// mayCall reports whether the caller is root or this process's own user.
func mayCall(conn net.Conn) bool {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return true // a pipe within this process
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
}

func (m *Machine) answer(ctx context.Context, q request) (r reply) {
	var err error
	switch q.Op {
	case hw.OpQuote:
		var data hw.ReportData
		if err = fill(data[:], q.Data); err == nil {
			r.Bytes, err = m.Quote(ctx, data)
		}
	case hw.OpRegisters:
		r.Bytes, err = m.answerRegisters(ctx, q.Index)
	case hw.OpExtend:
		var digest hw.Digest
		if err = fill(digest[:], q.Data); err == nil {
			err = m.extend(ctx, q.Index, digest)
		}
	case hw.OpBootLog:
		r.Bytes, err = m.BootLog()
	case hw.OpBootID:
		r.Bytes = []byte(m.bootID)
	case opPlatform:
		r.Bytes = []byte(m.parts.TEE)
	case opRoot:
		r.Bytes = m.RootPEM()
	case opFaults:
		err = m.Inject(q.Faults...)
	default:
		err = fmt.Errorf("a simulated TD knows no operation %q", q.Op)
	}
	if err == nil {
		return r
	}
	r = reply{Error: err.Error(), Malformed: errors.Is(err, hw.ErrMalformed)}
	if e, ok := errors.AsType[*hw.Error](err); ok {
		r.Errno = e.Errno
	}
	return r
}

// extend extends an RTMR, or a PCR where there is a vTPM.
func (m *Machine) extend(ctx context.Context, index int, digest hw.Digest) error {
	if m.parts.Anchor == logs.AnchorPCR {
		return m.extendPCR(ctx, index, digest)
	}
	return m.ExtendRTMR(ctx, index, digest)
}

// answerRegisters are the registers as they travel.
func (m *Machine) answerRegisters(ctx context.Context, number int) ([]byte, error) {
	if number < 0 || number > 23 {
		return nil, hw.NewError(hw.OpRegisters, place, syscall.EINVAL)
	}
	now, err := m.readWith(ctx, number)
	b := now.MRTD[:]
	for _, rtmr := range now.RTMR {
		b = append(b, rtmr[:]...)
	}
	if of256, has := now.PCR.SHA256(); has {
		of384, _ := now.PCR.SHA384()
		b = append(append(b, of256[:]...), of384[:]...)
	}
	return b, err
}

const (
	opRoot     = "root"
	opFaults   = "faults"
	opPlatform = "platform"
)

func fill(field, given []byte) error {
	if len(given) != len(field) {
		return syscall.EINVAL // as the kernel's drivers do
	}
	copy(field, given)
	return nil
}

// readLine reads one line of at most limit bytes and decodes it.
func readLine(r io.Reader, limit int, into any) error {
	b := bufio.NewReader(io.LimitReader(r, int64(limit)))
	line, err := b.ReadBytes('\n')
	if err != nil {
		if len(line) == limit {
			return fmt.Errorf("line of more than %d bytes", limit)
		}
		return err
	}
	return json.Unmarshal(line, into, protocol)
}
