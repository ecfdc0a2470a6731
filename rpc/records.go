package rpc

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// CCEventLog is one page of the event log in the view of CIMA 0.5: boot
// events under index 0–2, IMA's entries under 2 where the kernel extends RTMR2
// for them, the caller's own events under index 3. The log that replays to
// RTMR3 is in Evidence.
type CCEventLog struct {
	Events []EventRecord `json:"events"`
	Total  int           `json:"total"`         // records in the whole view
	Next   int           `json:"next,omitzero"` // start of the next page; absent on the last one
}

// EventRecord is one event (TCG PC Client Platform Firmware Profile,
// TCG_PCR_EVENT2; the member names are CIMA 0.5's).
type EventRecord struct {
	RecNum    int               `json:"rec_num"`   // position in this view, from 0
	IMRIndex  int               `json:"imr_index"` // 0–2: RTMR0–2, 3: container register
	EventType uint32            `json:"event_type"`
	Digests   []EventDigest     `json:"digests"`
	EventSize int               `json:"event_size"` // bytes of Event
	Event     []byte            `json:"event"`
	ExtraInfo map[string]string `json:"extra_info,omitempty"` // index 3: rtmr3_digest, lower-case hex; IMA: template_name
}

// AppendJSON writes what encoding/json would: the daemon encodes each record
// once and sends it often.
func (r EventRecord) AppendJSON(b []byte) ([]byte, error) {
	b = strconv.AppendInt(append(b, `{"rec_num":`...), int64(r.RecNum), 10)
	b = strconv.AppendInt(append(b, `,"imr_index":`...), int64(r.IMRIndex), 10)
	b = strconv.AppendUint(append(b, `,"event_type":`...), uint64(r.EventType), 10)
	b = append(b, `,"digests":[`...)
	for i, d := range r.Digests {
		b = append(append(b, separator(i, "")...), `{"algo_id":`...)
		b = strconv.AppendInt(b, int64(d.AlgoID), 10)
		b = hex.AppendEncode(append(b, `,"hash":"`...), d.Hash)
		b = append(b, `"}`...)
	}
	b = strconv.AppendInt(append(b, `],"event_size":`...), int64(r.EventSize), 10)
	b = base64.StdEncoding.AppendEncode(append(b, `,"event":"`...), r.Event)
	b = append(b, '"')
	for i, name := range slices.Sorted(maps.Keys(r.ExtraInfo)) {
		b = append(b, separator(i, `,"extra_info":{`)...)
		b = appendText(append(appendText(b, name), ':'), r.ExtraInfo[name])
	}
	if len(r.ExtraInfo) > 0 {
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

// EventDigest is one digest of an event.
type EventDigest struct {
	AlgoID int      `json:"algo_id"` // TCG Algorithm Registry
	Hash   HexBytes `json:"hash"`
}

// HexBytes is a digest of any algorithm; on the wire lower-case hex.
type HexBytes []byte

// MarshalText writes lower-case hex.
func (b HexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// UnmarshalText reads lower-case hex.
func (b *HexBytes) UnmarshalText(text []byte) error {
	v, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if hex.EncodeToString(v) != string(text) {
		return fmt.Errorf("a digest is written in lower-case hex")
	}
	*b = v
	return nil
}

// Identity is the caller as the daemon sees it. Exactly one of Container and
// Host is set.
type Identity struct {
	PID       int32              `json:"pid"` // in the daemon's pid namespace, as of connect()
	UID       uint32             `json:"uid"` // as the kernel maps it for the daemon
	GID       uint32             `json:"gid"`
	Container *ContainerIdentity `json:"container,omitzero"`
	Host      *HostClaims        `json:"host,omitzero"`
}

// ContainerIdentity is which container, and how sure that is.
type ContainerIdentity struct {
	ID           string    `json:"id"` // "uid/" before it where the record is a user's
	Runtime      string    `json:"runtime"`
	Image        string    `json:"image,omitempty"`
	ImageDigest  string    `json:"image_digest,omitempty"` // config digest, "sha256:…"
	LaunchDigest *Digest   `json:"launch_digest,omitzero"` // absent until the launch is in the log
	Cgroup       string    `json:"cgroup"`                 // declared path, from the hierarchy's root
	Assurance    Assurance `json:"assurance"`
}

// ContainerList is every container that the daemon knows of.
type ContainerList struct {
	Containers []ContainerStatus `json:"containers"`
}

// ContainerStatus is one container as an admin sees it.
type ContainerStatus struct {
	ContainerIdentity
	Register *Digest `json:"register,omitzero"` // absent until the launch is in the log
	Events   int     `json:"events"`            // of this instance, in the runtime log
	Running  bool    `json:"running"`
	NotReady string  `json:"not_ready,omitempty"` // why it gets no evidence yet
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
	Server    Counts            `json:"server"`
	Calls     map[string]uint64 `json:"calls"`      // by method
	Errors    map[string]uint64 `json:"errors"`     // by code, "-32001"
	Container int               `json:"containers"` // known and running
	Metrics   string            `json:"metrics,omitempty"`
}

// Counts are the server's own figures, for GetStatus.
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
	Problem    string `json:"problem,omitempty"` // last point of agreement, and what is known of the difference
}
