package rpc

import (
	"encoding/hex"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// CCEventLog is one page of the event log in the view of CIMA 0.5: boot events have
// index 0 to 2, IMA's entries 2 if the kernel extends RTMR2 for them, the caller's own
// events 3. The log that replays to RTMR3 is in Evidence.
type CCEventLog struct {
	_ canonical.Open

	Events []EventRecord `json:"events"`
	Total  int           `json:"total" within:"0..2147483647"`         // records in the whole view
	Next   int           `json:"next,omitzero" within:"0..2147483647"` // start of the next page; absent on the last one
}

// EventRecord is one event (TCG PC Client Platform Firmware Profile,
// TCG_PCR_EVENT2; the member names are CIMA 0.5's).
type EventRecord struct {
	_ canonical.Open

	RecNum    int               `json:"rec_num" within:"0..2147483647"` // position in this view, from 0
	IMRIndex  int               `json:"imr_index" within:"0..3"`        // 0–2: RTMR0–2, 3: container register
	EventType uint32            `json:"event_type"`
	Digests   []EventDigest     `json:"digests"`
	EventSize int               `json:"event_size" within:"0..16777216"` // bytes of Event
	Event     []byte            `json:"event"`
	ExtraInfo map[string]string `json:"extra_info,omitempty"` // index 3: rtmr3_digest, lower-case hex; IMA: template_name
}

// AppendJSON writes a record on one line. The daemon encodes each record once and sends
// it often.
func (r EventRecord) AppendJSON(b []byte) ([]byte, error) { return appendJSON(b, &r) }

// decode reads a page, which may have members of a later version.
func (l *CCEventLog) decode(raw []byte) error {
	*l = CCEventLog{}
	if err := canonical.Unmarshal(raw, l); err != nil {
		return err
	}
	for i := range l.Events {
		if e := &l.Events[i]; e.EventSize != len(e.Event) {
			return wrong(fmt.Sprintf("events[%d].event_size", i), fmt.Sprintf("must be the event's size, %d", len(e.Event)))
		}
	}
	return nil
}

// EventDigest is one digest of an event.
type EventDigest struct {
	_ canonical.Open

	AlgoID int      `json:"algo_id" within:"0..65535"` // TCG Algorithm Registry
	Hash   HexBytes `json:"hash"`
}

// HexBytes is a digest of any algorithm; on the wire lower-case hex.
type HexBytes []byte

// MarshalText writes lower-case hex.
func (b HexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// UnmarshalText reads lower-case hex.
func (b *HexBytes) UnmarshalText(text []byte) error {
	v := make([]byte, hex.DecodedLen(len(text)))
	if _, err := lowerHex(v, text); err != nil {
		return fmt.Errorf("a digest must be in lower-case hex: %w", err)
	}
	*b = v
	return nil
}

// lowerHex is hex.Decode without capitals.
func lowerHex(to, text []byte) (int, error) {
	if len(text)%2 != 0 {
		return 0, hex.ErrLength
	}
	n := len(text) / 2
	to = to[:n]
	for i := range to {
		high, low := nibbles[text[2*i]], nibbles[text[2*i+1]]
		if high|low > 15 {
			return i, hex.InvalidByteError(text[2*i])
		}
		to[i] = high<<4 | low
	}
	return n, nil
}

// nibbles are the values of lower-case hex digits, and 255 for all other bytes.
var nibbles = func() (n [256]byte) {
	for i := range n {
		n[i] = 255
	}
	for i, digit := range []byte("0123456789abcdef") {
		n[digit] = byte(i)
	}
	return n
}()

// Identity is the caller as the daemon sees it. Exactly one of Container and
// Host is set.
type Identity struct {
	PID       int32              `json:"pid"` // in the daemon's pid namespace, as of connect()
	UID       uint32             `json:"uid"` // as the kernel maps it for the daemon
	GID       uint32             `json:"gid"`
	Container *ContainerIdentity `json:"container,omitzero"`
	Host      *HostClaims        `json:"host,omitzero"`
}

// ProcessIdentity is the process that has the number while it is answered. Exactly one of
// Container and Host is set; Source and Power are there for a container; Power is empty where it has none.
type ProcessIdentity struct {
	PID       int                `json:"pid"`
	Started   uint64             `json:"started"` // field 22 of proc_pid_stat(5)
	Container *ContainerIdentity `json:"container,omitzero"`
	Source    string             `json:"source,omitzero"` // launch.source (cima-evidence(7)): where its specification was read
	Power     []string           `json:"power,omitzero"`  // classes of power (cima-evidence(7))
	Host      *HostClaims        `json:"host,omitzero"`
}

// ContainerIdentity is one container, and how sure the daemon is of it.
type ContainerIdentity struct {
	ID           string    `json:"id"` // with "uid/" before it if the record is a user's
	Runtime      string    `json:"runtime"`
	Image        string    `json:"image,omitempty"`
	ImageDigest  string    `json:"image_digest,omitempty"` // config digest, "sha256:…"
	LaunchDigest *Digest   `json:"launch_digest,omitzero"` // absent until the launch is in the log
	Cgroup       string    `json:"cgroup"`                 // declared path, from the hierarchy's root
	Assurance    Assurance `json:"assurance"`
	Pod          PodClaims `json:"pod,omitzero"` // as in claims; absent until the launch is in the log
}

// ContainerList is every container that the daemon knows.
type ContainerList struct {
	Containers []ContainerStatus `json:"containers"`
}

// ContainerStatus is one container as an admin sees it.
type ContainerStatus struct {
	ContainerIdentity
	Register *Digest  `json:"register,omitzero"` // absent until the launch is in the log
	Power    []string `json:"power,omitzero"`    // classes of power; absent until they are known
	Events   int      `json:"events"`            // of this instance, in the runtime log
	Running  bool     `json:"running"`
	NotReady string   `json:"not_ready,omitempty"` // why it gets no evidence yet
}

// Status is the state of the daemon.
type Status struct {
	Version   string            `json:"version"`
	BootID    string            `json:"boot_id"`
	Uptime    int64             `json:"uptime_s"`           // of the daemon, seconds
	Ready     bool              `json:"ready"`              // evidence can be had
	Problem   string            `json:"problem,omitempty"`  // why not
	Hardware  map[string]string `json:"hardware,omitempty"` // what was chosen: "quote", "registers", "extend", …
	Log       LogStatus         `json:"log"`
	Power     []string          `json:"power"` // classes of power that the log announces to all, until the next boot
	Server    Counts            `json:"server"`
	Calls     map[string]uint64 `json:"calls"`      // by method
	Errors    map[string]uint64 `json:"errors"`     // by code, "-32001"
	Container int               `json:"containers"` // known and running
	Metrics   string            `json:"metrics,omitempty"`
}

// Counts are the figures of rpc/server, for GetStatus.
type Counts struct {
	Connections int    `json:"connections"` // open now
	Callers     int    `json:"callers"`     // with a connection now
	Accepted    uint64 `json:"accepted"`
	Refused     uint64 `json:"refused"` // turned away at a connection limit
	Dropped     uint64 `json:"dropped"` // closed for breaking a limit of the protocol
	Memory      int64  `json:"memory"`  // bytes of long lines and replies held now
}

// LogStatus is the state of the runtime log.
type LogStatus struct {
	LogClaims
	Consistent bool   `json:"consistent"`
	Problem    string `json:"problem,omitempty"` // the last event up to which they agree, and what is known of the difference
}
