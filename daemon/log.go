package daemon

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"

	bounded "github.com/cima-project/cima/daemon/journal"
)

// newLogger writes to the journal with fields where stderr is connected to it, else
// lines to stderr, and no more of them than daemon/journal allows. last tells how many
// were left out.
func newLogger(stderr io.Writer, level slog.Leveler) (log *slog.Logger, last func()) {
	var writes slog.Handler = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})
	if ok, err := journal.StderrIsJournalStream(); ok && err == nil {
		writes = &journalHandler{level: level}
	}
	h := bounded.Bound(writes)
	return slog.New(h), h.Close
}

// leftOut returns the count of messages that a logger left out.
func leftOut(log *slog.Logger) func() uint64 {
	if h, ok := log.Handler().(*bounded.Handler); ok {
		return h.LeftOut
	}
	return func() uint64 { return 0 } // a test's
}

// journalHandler hands records to journald by its native protocol, so that
// `journalctl CIMA_CONTAINER=…` finds them.
type journalHandler struct {
	level slog.Leveler
	attrs []slog.Attr
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	fields := make(map[string]string, len(h.attrs)+r.NumAttrs())
	message := r.Message
	add := func(a slog.Attr) bool {
		value := a.Value.Resolve().String()
		fields["CIMA_"+fieldName(a.Key)] = value
		message += " " + a.Key + "=" + value
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	return journal.Send(message, priority(r.Level), fields)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.level, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup is not used here: field names are flat in the journal.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

// fieldName makes a name of letters, digits and underscores, as
// systemd.journal-fields(7) wants it.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(key))
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
