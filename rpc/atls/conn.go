package atls

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

// Appraiser decides whether evidence is true, and of whom it must be. An error refuses
// the session. The evidence must have exactly this nonce and these user data; whoever
// appraises must check both.
type Appraiser interface {
	Appraise(ctx context.Context, evidence, nonce, userData []byte) error
}

const (
	helloTime = 5 * time.Second  // for the handshake and the nonce
	proveTime = 60 * time.Second // for evidence, to be made and to travel

	// between is the time between two challenges of one session. Whoever is asked allows
	// for some that the network kept.
	between   = time.Minute
	tolerance = 5 * time.Second
)

// means is what an end proves itself and appraises the other by.
type means struct {
	prover    *tree.Prover
	appraiser Appraiser
	divider   *divider
	known     *known
	room      *room // for evidence that is not appraised yet; nil for any
}

// Conn is a session whose other end was attested, or which attested this one. Its
// methods are those of a net.Conn. Challenges on the open session are answered and
// answers are taken by Read: whoever uses Reattest, or lets the other end use it, must
// be reading.
type Conn struct {
	tls     *tls.Conn
	in      *bufio.Reader
	role    role // of this end
	between time.Duration
	means

	ctx  context.Context // until the session ends here; its cause says why
	stop context.CancelCauseFunc

	reading sync.Mutex
	left    int        // bytes of the data frame that is being read
	control controlled // the other frame that is being read
	share   share

	writing sync.Mutex

	mu        sync.Mutex
	challenge time.Time     // when the other end's last one came
	asked     time.Time     // when this end's last one went
	awaited   chan<- proof  // where the answer goes; nil if none is awaited
	logs      chan<- []byte // where logs go; nil if none are awaited
	lacking   chan<- stand  // where goes what the other end has; nil if it was told nothing
	answering bool          // a challenge, until the other end says what it lacks

	opening bool // frames are read by who opens the session
}

// controlled is a frame that isn't the program's data. It survives a deadline in its midst.
type controlled struct {
	kind kind
	size int
	body []byte
	tree *rpc.Shared // of the answer whose report must be next
}

func newConn(c *tls.Conn, r role, m means) *Conn {
	conn := &Conn{tls: c, in: bufio.NewReaderSize(c, 16384), role: r, between: between, means: m}
	conn.ctx, conn.stop = context.WithCancelCause(context.Background())
	conn.share.of = m.room
	return conn
}

// Read reads what the other end's program wrote. Once this end has ended the session,
// nothing more is given, and the error says why: never io.EOF, which would pass for the
// other end's orderly end.
func (c *Conn) Read(to []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(to) == 0 {
		return 0, nil
	}
	n, err := c.read(to)
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return n, err
}

func (c *Conn) read(to []byte) (int, error) {
	for c.left == 0 {
		k, body, err := c.next()
		if err != nil {
			return 0, err
		}
		if k != frameData {
			if err := c.take(k, body); err != nil {
				return 0, c.end(fmt.Errorf("attested TLS: %w", err))
			}
		}
	}
	n, err := c.in.Read(to[:min(len(to), c.left)])
	c.left -= n
	return n, unexpected(err)
}

// Write writes to the other end's program.
func (c *Conn) Write(b []byte) (written int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	buffer := make([]byte, 0, min(len(b)+headerSize, maxData+headerSize))
	for len(b) > 0 {
		n := min(len(b), maxData)
		if _, err := c.tls.Write(frame(buffer[:0], frameData, b[:n])); err != nil {
			return written, err
		}
		written, b = written+n, b[n:]
	}
	return written, nil
}

// Close ends the session.
func (c *Conn) Close() error {
	c.stop(net.ErrClosed)
	c.share.end()
	return c.tls.Close()
}

// end ends the session for a reason, and returns it. The reason is noted before the
// other end can answer. The other end isn't told that nothing more comes: what was
// refused must not read there as an orderly end.
func (c *Conn) end(why error) error {
	c.stop(why)
	c.share.end()
	c.tls.NetConn().Close()
	return why
}

// CloseWrite tells the other end that nothing more comes. It can't attest this end
// again then.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.tls.CloseWrite()
}

// Closed is closed when this end has closed the session.
func (c *Conn) Closed() <-chan struct{} { return c.ctx.Done() }

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.tls.LocalAddr() }

// RemoteAddr is the other end's address, which proves nothing.
func (c *Conn) RemoteAddr() net.Addr { return c.tls.RemoteAddr() }

// SetDeadline bounds Read and Write.
func (c *Conn) SetDeadline(t time.Time) error { return c.tls.SetDeadline(t) }

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.tls.SetReadDeadline(t) }

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.tls.SetWriteDeadline(t) }
