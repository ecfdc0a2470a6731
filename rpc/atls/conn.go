package atls

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

// next reads up to the program's data, or a whole frame of another kind.
func (c *Conn) next() (kind, []byte, error) {
	if c.control.kind == 0 {
		b, err := c.in.Peek(headerSize)
		if len(b) > 0 || wasCut(c.tls) {
			err = unexpected(err)
		}
		if err != nil {
			return 0, nil, err
		}
		k, size, err := header(b)
		if err == nil && (c.control.tree != nil) != (k == frameReport) {
			err = errors.New("the other end's report and its place in the tree must follow each other")
		}
		if err == nil {
			err = c.expects(k)
		}
		if err != nil {
			return 0, nil, c.end(fmt.Errorf("attested TLS: %w", err))
		}
		c.in.Discard(headerSize)
		if k == frameData {
			c.left = size
			return k, nil, nil
		}
		c.control.kind, c.control.size, c.control.body = k, size, nil
	}
	for f := &c.control; len(f.body) < f.size; {
		// It grows as the bytes come: a header alone costs no memory.
		at := len(f.body)
		f.body = append(f.body, make([]byte, min(f.size-at, max(4096, at)))...)
		n, err := c.in.Read(f.body[at:])
		if f.body = f.body[:at+n]; err != nil {
			return 0, nil, unexpected(err)
		}
		if f.kind == frameReport || f.kind == frameLogs {
			if err := c.share.take(n); err != nil {
				return 0, nil, c.end(fmt.Errorf("attested TLS: %w", err))
			}
		}
	}
	k, body := c.control.kind, c.control.body
	c.control.kind, c.control.body = 0, nil
	return k, body, nil
}

// unexpected is the end of the session in the midst of a frame, or without the other
// end's word.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take does what a frame without data asks for.
func (c *Conn) take(k kind, body []byte) error {
	switch k {
	case frameTree:
		place, err := tree.ReadPlace(body)
		c.control.tree = place
		return err
	case frameReport:
		p, err := readReport(c.control.tree, body)
		c.control.tree = nil
		if err == nil {
			err = hand(c, &c.awaited, p)
		}
		return err
	case frameLacking:
		has, err := readStand(body)
		if err == nil {
			err = hand(c, &c.lacking, has)
		}
		c.mu.Lock()
		c.answering = false
		c.mu.Unlock()
		return err
	case frameLogs:
		return hand(c, &c.logs, body)
	}
	return c.challenged(body)
}

var errUnasked = errors.New("the other end sent evidence that nobody asked for")

// expects refuses frames that nobody waits for, by their headers.
func (c *Conn) expects(k kind) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k == frameTree && c.awaited == nil || k == frameLogs && c.logs == nil {
		return errUnasked
	}
	if k == frameLacking && c.lacking == nil {
		return errors.New("the other end asks for the logs of no report")
	}
	return nil
}

// hand gives what came to who waits for it, and for no more.
func hand[T any](c *Conn, waits *chan<- T, what T) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *waits == nil {
		return errUnasked
	}
	*waits <- what // has room for the one
	*waits = nil
	return nil
}

// wait says who waits for something.
func wait[T any](c *Conn, waits *chan<- T) <-chan T {
	one := make(chan T, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	*waits = one
	return one
}

// challenged answers a nonce on the open session.
func (c *Conn) challenged(nonce []byte) error {
	if err := c.allow(); err != nil {
		return err
	}
	go func() {
		ctx, cancel := context.WithTimeout(c.ctx, proveTime)
		defer cancel()
		if err := c.prove(ctx, nonce); err != nil {
			// Why is for this end's log alone.
			c.end(fmt.Errorf("attested TLS: this end can't prove itself: %w", err))
		}
	}()
	return nil
}

// allow checks that the other end may send a challenge now.
func (c *Conn) allow() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.prover == nil {
		return fmt.Errorf("the other end, the %s, asks for evidence of this one, which has none to give", c.role.other())
	}
	now := time.Now()
	if least := c.between - tolerance; !c.challenge.IsZero() && now.Sub(c.challenge) < least {
		return fmt.Errorf("the other end sent a nonce %v after its last; it must wait %v", now.Sub(c.challenge).Round(time.Second), c.between)
	}
	if c.answering {
		return errors.New("the other end sent a nonce before its last was answered")
	}
	c.challenge, c.answering = now, true
	return nil
}

// get returns what comes for who waits: of frames of this kind, which are read here while
// the session opens, and by Read afterwards.
func get[T any](ctx context.Context, c *Conn, from <-chan T, k kind) (what T, err error) {
	if !c.opening {
		select {
		case what = <-from:
			return what, nil
		case <-c.ctx.Done():
			return what, context.Cause(c.ctx)
		case <-ctx.Done():
			return what, context.Cause(ctx)
		}
	}
	for {
		select {
		case what = <-from:
			return what, nil
		default:
		}
		came, body, err := c.next()
		if err == nil && came != k {
			err = fmt.Errorf("the %s must send a frame of the kind %d now, not of %d", c.role.other(), k, came)
		}
		if err == nil {
			err = c.take(came, body)
		}
		if err != nil {
			return what, err
		}
	}
}

// prove answers a nonce: the report first, then what the other end lacks of the logs.
func (c *Conn) prove(ctx context.Context, nonce []byte) error {
	binding, err := bindingOf(c.tls.ConnectionState(), c.role, nonce)
	if err != nil {
		return err
	}
	whole, err := c.prover.Prove(ctx, binding, nonce)
	if err != nil {
		return err
	}
	parts, err := c.divider.divide(whole.Evidence)
	if err != nil {
		return err
	}
	frames, err := proof{whole.Tree, parts.whole(), parts.report}.frames()
	if err != nil {
		return err
	}
	asked := wait(c, &c.lacking)
	if err := c.send(frames); err != nil {
		return err
	}
	has, err := get(ctx, c, asked, frameLacking)
	if err != nil {
		return fmt.Errorf("what the other end lacks of the logs: %w", err)
	}
	if body, due := parts.from(has); due {
		return c.send(frame(nil, frameLogs, body))
	}
	return nil
}

func (c *Conn) send(frames []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.tls.Write(frames)
	return err
}

// ask sends a new nonce.
func (c *Conn) ask() ([]byte, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return nonce, c.send(frame(nil, frameChallenge, nonce))
}

// judge has an answer to a nonce appraised, with the logs that this end has or gets.
func (c *Conn) judge(ctx context.Context, nonce []byte, p proof) error {
	defer c.share.letGo()
	binding, err := bindingOf(c.tls.ConnectionState(), c.role.other(), nonce)
	if err != nil {
		return err
	}
	must, userData, err := tree.Bound(p.place, binding, nonce)
	if err != nil {
		return fmt.Errorf("the other end: %w", err)
	}
	logs, news, err := c.fetch(ctx, p)
	if err != nil {
		return err
	}
	evidence, err := together(p.report, logs.pieces)
	if err != nil {
		return err
	}
	if err := c.appraiser.Appraise(ctx, evidence, must, userData); err != nil {
		return err
	}
	if news {
		c.known.keep(p.report, logs)
	}
	return nil
}

// fetch asks for what this end lacks of the logs. news is whether anything came.
func (c *Conn) fetch(ctx context.Context, p proof) (logs *parts, news bool, err error) {
	all, beginning := c.known.find(p.report, p.logs)
	if all != nil {
		return all, false, c.send(frame(nil, frameLacking, p.logs.append(nil)))
	}
	came := wait(c, &c.logs)
	if err := c.send(frame(nil, frameLacking, beginning.whole().append(nil))); err != nil {
		return nil, false, err
	}
	body, err := get(ctx, c, came, frameLogs)
	if err != nil {
		return nil, false, fmt.Errorf("the other end's logs: %w", err)
	}
	logs, err = readLogs(body, beginning, p.logs)
	return logs, true, err
}

// Reattest asks the other end for evidence of now, and closes the session unless it
// is appraised well. Once a minute is the most. Somebody must be reading meanwhile.
func (c *Conn) Reattest(ctx context.Context) error {
	answer := make(chan proof, 1)
	if err := c.await(answer); err != nil {
		return err
	}
	if err := c.reattest(ctx, answer); err != nil {
		return c.end(err)
	}
	return nil
}

// await notes that an answer is wanted.
func (c *Conn) await(answer chan<- proof) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.appraiser == nil:
		return errors.New("re-attest: this end has nothing to appraise evidence by")
	case c.awaited != nil:
		return errors.New("re-attest: an answer is awaited already")
	case time.Since(c.asked) < c.between:
		return fmt.Errorf("re-attest: a session must be asked at most once in %v", c.between)
	}
	c.asked, c.awaited = time.Now(), answer
	return nil
}

func (c *Conn) reattest(ctx context.Context, answer <-chan proof) error {
	ctx, cancel := context.WithTimeout(ctx, proveTime)
	defer cancel()
	nonce, err := c.ask()
	if err != nil {
		return fmt.Errorf("re-attest: %w", err)
	}
	p, err := get(ctx, c, answer, frameTree)
	if err != nil {
		return fmt.Errorf("re-attest: %w", err)
	}
	return c.judge(ctx, nonce, p)
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
