package journal

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/daemon/daemontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journalled is a bounded logger, and the lines that it wrote.
type journalled struct {
	*slog.Logger
	handler *Handler
	text    daemontest.Buffer
}

func newJournalled(level slog.Level) *journalled {
	j := &journalled{}
	j.handler = Bound(slog.NewTextHandler(&j.text, &slog.HandlerOptions{Level: level}))
	j.Logger = slog.New(j.handler)
	return j
}

func (j *journalled) lines(with string) (n int) {
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

// One payer's flood of one message is bounded and counted; the next payer's is written,
// and so is the payer's own next message.
func TestFloodOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournalled(slog.LevelInfo)
		j.Info("another", "container", "second") // the timer's wait is longer than what follows
		for range 18_766 {
			j.Warn("flooded", "container", "first")
		}
		j.Warn("flooded", "container", "second")
		j.Warn("alone", "container", "first")
		if got := j.lines("msg=flooded container=first"); got != burst {
			t.Errorf("%d lines of the flood, must be %d", got, burst)
		}
		if j.lines("msg=flooded container=second") != 1 || j.lines("msg=alone") != 1 || j.lines("msg=another") != 1 {
			t.Errorf("a message that was no flood is missing:\n%s", j.text.String())
		}
		time.Sleep(tellAll + time.Millisecond)
		synctest.Wait()
		want := fmt.Sprintf("level=WARN msg=\"… and more messages, left out\" more=%d payers=1 most=flooded count=%d payer=first", 18_766-burst, 18_766-burst)
		if j.lines(want) != 1 || j.handler.LeftOut() != 18_766-burst {
			t.Errorf("left out: %d; no line %s in\n%s", j.handler.LeftOut(), want, j.text.String())
		}
		before := len(j.text.String())
		time.Sleep(2 * tellAll)
		synctest.Wait()
		if len(j.text.String()) != before {
			t.Errorf("it was told twice:\n%s", j.text.String()[before:])
		}
	})
}

// For a minute there are no more lines than the rate allows, whoever causes them.
func TestRates(t *testing.T) {
	for name, tt := range map[string]struct {
		payers int // that flood at once
		most   int // lines within a minute
	}{
		"one":      {1, burst + 60},
		"no payer": {0, burst + 60},
		"many":     {5000, allBurst + 60*20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJournalled(slog.LevelInfo)
				end := time.Now().Add(time.Minute)
				for n := 0; time.Now().Before(end); n++ {
					if tt.payers > 0 {
						j.Info("flooded", "caller", fmt.Sprint("payer-", n%tt.payers))
					} else {
						j.Info("flooded", "pid", n)
					}
					time.Sleep(time.Millisecond)
				}
				j.handler.Close()
				if got := j.lines("msg=flooded"); got > tt.most || got < burst {
					t.Errorf("%d lines, must be %d at most", got, tt.most)
				}
				if told := j.lines("more="); told == 0 || told > 7 {
					t.Errorf("what was left out is told in %d lines", told)
				}
				if n := len(j.handler.bounds.kinds); n > maxKinds+1 {
					t.Errorf("%d kinds are told apart", n)
				}
			})
		})
	}
}

// What many payers cause at one level leaves the other levels alone.
func TestLevelsApart(t *testing.T) {
	j := newJournalled(slog.LevelInfo)
	defer j.handler.Close()
	for n := range 2 * allBurst {
		j.Info("call refused", "caller", fmt.Sprint("payer-", n))
	}
	j.Warn("a container can act as root of the guest", "container", "privileged")
	if j.lines("level=WARN") != 1 {
		t.Error("calls that are refused keep a warning from the journal")
	}
}

type subject struct{ payer string }

func (s subject) Payer() string  { return s.payer }
func (s subject) String() string { return "host uid 100005" }

// All that one user has is one payer.
func TestPayers(t *testing.T) {
	for _, tt := range []struct {
		attr  slog.Attr
		payer string
	}{
		{slog.String("container", "1000/podman-a"), "uid 1000"},
		{slog.String("container", "1000/podman-b"), "uid 1000"},
		{slog.String("caller", "uid 1000"), "uid 1000"},
		{slog.Any("caller", subject{"uid 1000"}), "uid 1000"},
		{slog.String("container", "docker/abc"), "docker/abc"},
		{slog.String("path", "1000/x"), ""},
	} {
		h := Bound(slog.DiscardHandler)
		r := slog.NewRecord(time.Time{}, slog.LevelInfo, "m", 1)
		r.AddAttrs(slog.Int("pid", 1), tt.attr)
		if got := h.payerOf(r); got != tt.payer {
			t.Errorf("%v: payer %q, must be %q", tt.attr, got, tt.payer)
		}
		if got := h.WithAttrs([]slog.Attr{tt.attr}).WithGroup("g").(*Handler).payer; got != tt.payer {
			t.Errorf("With(%v): payer %q, must be %q", tt.attr, got, tt.payer)
		}
	}
}

// With --debug nothing is lost: what is beyond a bound has the debug level.
func TestDebug(t *testing.T) {
	j := newJournalled(slog.LevelDebug)
	defer j.handler.Close()
	for range 50 {
		j.Info("flooded", "caller", "uid 1")
		j.Debug("call answered", "caller", "uid 1")
	}
	if j.lines("level=INFO msg=flooded") != burst || j.lines("level=DEBUG msg=flooded") != 50-burst || j.lines("msg=\"call answered\"") != 50 {
		t.Errorf("wrote\n%s", j.text.String())
	}
}

// A flood of kinds can't make the table, or the count of what is left out, grow.
func TestFloodOfKinds(t *testing.T) {
	h := Bound(slog.DiscardHandler)
	defer h.Close()
	for n := range uintptr(3 * maxKinds) {
		for range burst + 1 {
			r := slog.NewRecord(time.Now(), slog.LevelInfo, "m", n%7)
			r.Add("caller", fmt.Sprint("payer-", n))
			h.bounds.allow(r, h.payerOf(r))
		}
	}
	if kinds, left := len(h.bounds.kinds), len(h.bounds.left); kinds > maxKinds+7 || left > maxLeft {
		t.Errorf("%d kinds, %d counted apart", kinds, left)
	}
	if h.LeftOut() < 3*maxKinds-allBurst {
		t.Errorf("only %d messages were left out", h.LeftOut())
	}
}
