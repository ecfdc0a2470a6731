package atls

import (
	"errors"
	"fmt"
	"io"

	"github.com/cima-project/cima/rpc/tree"
)

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

func (c *Conn) send(frames []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.tls.Write(frames)
	return err
}
