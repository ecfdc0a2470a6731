package rpc

import (
	"bytes"
	"time"
)

// Send writes the answer to a call. What jrpc2 made is only the envelope
// round the number of a reply (see conn.handle).
func (c *conn) Send(message []byte) error {
	c.unanswered.Add(-1)
	defer c.unwritten.Add(-1)
	head, number, ok := cutPlaceholder(message)
	if !ok || number >= len(c.busy) {
		// jrpc2's own error: "duplicate request ID" is one.
		return c.write(append(message, '\n'))
	}
	r := c.busy[number]
	err := c.write(r.under(head))
	c.giveBack(r)
	return err
}

// giveBack makes a reply free to be filled again.
func (c *conn) giveBack(r *reply) {
	c.caller.take(-r.charged)
	r.charged = 0
	r.reset()
	c.slots <- r
}

// Close ends the connection; a Send that waits for its reader ends too.
func (c *conn) Close() error { return c.net.Close() }

// answer writes the answer to a line that is no call. id is nil where the
// line has none.
func (c *conn) answer(id []byte, e *Error) {
	if id == nil {
		id = []byte("null")
	}
	line := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	line = appendError(append(line, `,"error":`...), e)
	line = append(line, "}\n"...)
	if c.write(line) == nil && c.server.After != nil {
		c.server.After(c.ctx, "", 0, e, nil)
	}
}

// write writes one line, or closes the connection: half a line can't be
// taken back.
func (c *conn) write(line []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// As with reading, the deadline is not set anew each time: there is
	// always at least Write left, and never more than twice that.
	wait := c.server.limits.Write
	if now := time.Now(); c.writeBy.Sub(now) < wait {
		c.writeBy = now.Add(2 * wait)
		if err := c.net.SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	if _, err := c.net.Write(line); err != nil {
		c.Close()
		return err
	}
	return nil
}

const placeholder = `,"result":`

// cutPlaceholder takes `{"jsonrpc":"2.0","id":1,"result":3}` apart into what
// stands before the result, and the number. In an error's text every quote is
// escaped, so none can look like this.
func cutPlaceholder(message []byte) (head []byte, number int, ok bool) {
	i := len(message) - 2
	if i < 0 || message[i+1] != '}' {
		return nil, 0, false
	}
	for power := 1; i >= 0 && '0' <= message[i] && message[i] <= '9' && power < 1e6; i-- {
		number += power * int(message[i]-'0')
		power *= 10
	}
	head, ok = bytes.CutSuffix(message[:i+1], []byte(placeholder))
	return head, number, ok && i < len(message)-2
}
