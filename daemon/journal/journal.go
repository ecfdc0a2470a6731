// Package journal answers: which messages does the journal get?
//
// Callers and containers cause messages. Without a bound a flood of them would push out
// other messages, fill the disk, and take the time of whoever logs; and journald drops
// a service's messages beyond a rate, whichever they are. So Bound puts a handler before
// the one that writes, and each message of the daemon passes it, also one that is
// written into the code tomorrow:
//
//   - A message has a bound for each place in the code and each payer: who caused it.
//     The payer is the value of the attribute "caller" or "container".
//   - All messages that have a payer share a bound, one for each level, so that a flood
//     of lines about calls leaves warnings alone.
//   - What is left out is counted, and told in one line: how many, and of whom most.
//
// With --debug what is beyond a bound is written at the debug level.
package journal

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
)

// Handler leaves out what is beyond the bounds, and hands on the rest.
type Handler struct {
	next   slog.Handler
	payer  string // of the attributes that With added
	bounds *bounds
}

// Bound puts the bounds before a handler.
func Bound(next slog.Handler) *Handler {
	return &Handler{next: next, bounds: newBounds(next)}
}

// paid is a value that knows who pays for messages about it.
type paid interface{ Payer() string }

// Enabled reports whether the next handler takes messages of a level.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle hands on a message that is within the bounds.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && !h.bounds.allow(r, h.payerOf(r)) {
		if r.Level = slog.LevelDebug; !h.next.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs is Handler's part of slog.Logger.With.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := &Handler{next: h.next.WithAttrs(attrs), payer: h.payer, bounds: h.bounds}
	for _, a := range attrs {
		if payer, ok := payerIn(a); ok {
			with.payer = payer
		}
	}
	return with
}

// WithGroup is Handler's part of slog.Logger.WithGroup.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{next: h.next.WithGroup(name), payer: h.payer, bounds: h.bounds}
}

// Close tells what was left out and is not told yet.
func (h *Handler) Close() { h.bounds.tell() }

// LeftOut is how many messages were left out since the start.
func (h *Handler) LeftOut() uint64 { return h.bounds.total.Load() }

// payerOf names who pays for a message, "" if nobody does.
func (h *Handler) payerOf(r slog.Record) string {
	payer := h.payer
	r.Attrs(func(a slog.Attr) bool {
		found, ok := payerIn(a)
		if ok {
			payer = found
		}
		return !ok
	})
	return payer
}

// payerIn is the payer that an attribute names. All containers of a user are one payer:
// their owner's name begins with the uid.
func payerIn(a slog.Attr) (string, bool) {
	if a.Key != "caller" && a.Key != "container" {
		return "", false
	}
	if p, ok := a.Value.Any().(paid); ok {
		return p.Payer(), true
	}
	name := a.Value.Resolve().String()
	if uid, _, ok := strings.Cut(name, "/"); ok {
		if _, err := strconv.ParseUint(uid, 10, 32); err == nil {
			return "uid " + uid, true
		}
	}
	return name, true
}
