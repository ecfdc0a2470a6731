package launch

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
)

// Streams that ended are taken up again after followAgain, and ever later where
// that fails.
const (
	followAgain = time.Second
	followMost  = 30 * time.Second
)

// maxHappening bounds one event of an engine's: it repeats a container's labels.
const maxHappening = 1 << 20

// Happening is what an engine tells of a container.
type Happening struct {
	Runtime string
	ID      string
	Action  string // ActionStart, ActionDie
	At      time.Time
}

// Actions that are told.
const (
	ActionStart = "start"
	ActionDie   = "die"
)

// Follow calls tell, from several goroutines, for each start and end of a
// container that an engine tells of from now on, until ctx ends. It connects
// again where a stream ends, and asks then for what happened meanwhile. An
// engine that isn't there is waited for; one that systemd would start for the
// asking is left alone until somebody else starts it.
func (s *Store) Follow(ctx context.Context, tell func(Happening)) {
	var all sync.WaitGroup
	for _, e := range s.options.Engines {
		all.Go(func() { s.follow(ctx, e, tell) })
	}
	all.Wait()
}

func (s *Store) follow(ctx context.Context, e Engine, tell func(Happening)) {
	since, wait := time.Now(), followAgain
	for ctx.Err() == nil {
		begun := time.Now()
		if !asleep(e) && s.rootsSocket(e.Socket) == nil {
			// A line that is too long would come again and again.
			if err := stream(ctx, e, &since, tell); errors.Is(err, bufio.ErrTooLong) {
				since = time.Now()
			}
		}
		if wait = min(2*wait, followMost); time.Since(begun) > followMost {
			wait = followAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// happening is a line of GET /events (Docker Engine API 1.24 and later; podman's
// compatible API).
type happening struct {
	Type, Action string
	Actor        struct{ ID string }
	TimeNano     int64 `json:"timeNano"`
}

// stream reads one stream of events to its end, and moves since along.
func stream(ctx context.Context, e Engine, since *time.Time, tell func(Happening)) error {
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
	lines.Buffer(nil, maxHappening)
	for lines.Scan() {
		var h happening
		if json.Unmarshal(lines.Bytes(), &h) != nil || h.Type != "container" || !isID(h.Actor.ID) {
			continue
		}
		at := time.Unix(0, h.TimeNano)
		if !at.After(*since) {
			continue // told before
		}
		*since = at
		switch h.Action {
		case "start":
			tell(Happening{e.Runtime, h.Actor.ID, ActionStart, at})
		case "die", "died":
			tell(Happening{e.Runtime, h.Actor.ID, ActionDie, at})
		}
	}
	return lines.Err()
}

// asleep says that connecting would start the engine: systemd holds its socket,
// and its service is not active.
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

// listening is the inode of the Unix socket that has this path (proc_net(5)).
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

// samePath takes /var/run for /run.
func samePath(a, b string) bool {
	return strings.TrimPrefix(a, "/var") == strings.TrimPrefix(b, "/var")
}
