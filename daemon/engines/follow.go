package engines

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/launch"
)

// A stream that ended is opened again after minRetry, and after ever longer times
// up to maxRetry where that fails.
const (
	minRetry = time.Second
	maxRetry = 30 * time.Second
)

// maxEvent bounds one event, which repeats a container's labels.
const maxEvent = 1 << 20

// Event is what an engine reports of a container.
type Event struct {
	Runtime string
	ID      string
	Action  string // ActionStart, ActionDie
	At      time.Time
}

// Actions of an Event.
const (
	ActionStart = "start"
	ActionDie   = "die"
)

// Follow calls report, from several goroutines, for each start and end of a
// container that an engine reports from now on, until ctx ends. Where a stream
// ends it connects again, and asks for what happened in between. It waits for an
// engine that does not run. It does not connect to a socket of systemd's, which
// would start the engine, before somebody else has started it.
func (c *Client) Follow(ctx context.Context, report func(Event)) {
	var all sync.WaitGroup
	for _, e := range c.options.Engines {
		all.Go(func() { c.follow(ctx, e, report) })
	}
	all.Wait()
}

func (c *Client) follow(ctx context.Context, e Engine, report func(Event)) {
	since, wait := time.Now(), minRetry
	for ctx.Err() == nil {
		begun := time.Now()
		if !asleep(e) && c.storage.Trust.Socket(e.Socket) == nil {
			// The engine would send a line that is too long again and again.
			if err := stream(ctx, e, &since, report); errors.Is(err, bufio.ErrTooLong) {
				since = time.Now()
			}
		}
		if wait = min(2*wait, maxRetry); time.Since(begun) > maxRetry {
			wait = minRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// engineEvent is a line of the answer to GET /events (Docker Engine API 1.24 and later; podman's
// compatible API).
type engineEvent struct {
	Type, Action string
	Actor        struct{ ID string }
	TimeNano     int64 `json:"timeNano"`
}

// stream reads one stream of events to its end. It sets since to the time of the
// last event.
func stream(ctx context.Context, e Engine, since *time.Time, report func(Event)) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.Socket)
	}}
	defer transport.CloseIdleConnections()
	query := url.Values{
		"since":   {fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())},
		"filters": {`{"type":["container"]}`},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/events?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /events: %s", answer.Status)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var h engineEvent
		if json.Unmarshal(lines.Bytes(), &h) != nil || h.Type != "container" || !launch.IsID(h.Actor.ID) {
			continue
		}
		at := time.Unix(0, h.TimeNano)
		if !at.After(*since) {
			continue // reported before
		}
		*since = at
		switch h.Action {
		case "start":
			report(Event{e.Runtime, h.Actor.ID, ActionStart, at})
		case "die", "died":
			report(Event{e.Runtime, h.Actor.ID, ActionDie, at})
		}
	}
	return lines.Err()
}

// asleep reports whether connecting would start the engine: systemd holds its
// socket, and its service is not active.
func asleep(e Engine) bool {
	if _, err := os.Lstat("/run/systemd/units/invocation:" + e.Runtime + ".service"); err == nil {
		return false
	}
	inode := listening(e.Socket)
	links, _ := filepath.Glob("/proc/1/fd/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && inode != "" && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}

// listening returns the inode of the Unix socket that listens at this path
// (proc_net(5)), "" where none does.
func listening(path string) string {
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		// Num RefCount Protocol Flags Type St Inode Path; listening: __SO_ACCEPTCON.
		fields := strings.Fields(line)
		if len(fields) == 8 && fields[3] == "00010000" && samePath(fields[7], path) {
			return fields[6]
		}
	}
	return ""
}

// samePath compares paths, for which /var/run is /run.
func samePath(a, b string) bool {
	return strings.TrimPrefix(a, "/var") == strings.TrimPrefix(b, "/var")
}
