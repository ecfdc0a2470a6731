package atls

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cima-project/cima/rpc/tree"
)

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
