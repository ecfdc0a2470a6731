package atls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// open makes each end prove what the other wants, before either's program gets or sends
// a byte. The client asks first, and gives no evidence before it has the server's; a
// server always proves itself.
func (c *Conn) open(ctx context.Context) error {
	undo := context.AfterFunc(ctx, func() { c.tls.SetDeadline(time.Unix(1, 0)) })
	var err error
	c.opening = true
	if c.role == server {
		err = c.openServer(ctx)
	} else {
		err = c.openClient(ctx)
	}
	c.opening = false
	if !undo() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = c.tls.SetDeadline(time.Time{})
	}
	return err
}

func (c *Conn) openServer(ctx context.Context) error {
	var mine []byte
	var err error
	if c.appraiser != nil {
		c.asked = time.Now()
		if mine, err = c.ask(); err != nil {
			return err
		}
	}
	nonce, err := c.hello()
	if err != nil {
		return err
	}
	if err := errors.Join(c.tls.SetDeadline(time.Now().Add(2*proveTime)), ctx.Err()); err != nil {
		return err
	}
	if err := c.prove(ctx, nonce); err != nil || c.appraiser == nil {
		return err
	}
	p, _, err := c.answer()
	if err != nil {
		return err
	}
	return c.judge(ctx, mine, p)
}

// hello reads the client's nonce.
func (c *Conn) hello() ([]byte, error) {
	k, nonce, err := c.next()
	if err == nil && k != frameChallenge {
		err = errors.New("the client must begin with a nonce")
	}
	c.challenge = time.Now()
	return nonce, err
}

func (c *Conn) openClient(ctx context.Context) error {
	c.asked = time.Now()
	mine, err := c.ask()
	if err != nil {
		return c.told(err)
	}
	p, theirs, err := c.answer()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the server closed the session without evidence (%w); its own log says why", io.ErrUnexpectedEOF)
	} else if err != nil {
		return err
	}
	if err := c.judge(ctx, mine, p); err != nil || theirs == nil {
		return err
	}
	return c.prove(ctx, theirs)
}

// told is why nothing could be written: what the other end said of it, if it said anything
// before it closed the session.
func (c *Conn) told(err error) error {
	var alert *net.OpError
	if _, _, why := c.next(); errors.As(why, &alert) && alert.Op == "remote error" {
		return why
	}
	return err
}

// answer reads a proof, and the nonce that may come before it.
func (c *Conn) answer() (p proof, nonce []byte, err error) {
	got := wait(c, &c.awaited)
	for {
		k, body, err := c.next()
		switch {
		case err != nil:
			return p, nil, err
		case k == frameChallenge && c.role == client:
			if err := c.allow(); err != nil {
				return p, nil, err
			}
			nonce = body
		case k == frameTree || k == frameReport:
			if err := c.take(k, body); err != nil {
				return p, nil, err
			}
		default:
			return p, nil, fmt.Errorf("the %s must send evidence before anything else", c.role.other())
		}
		select {
		case p = <-got:
			return p, nonce, nil
		default:
		}
	}
}
