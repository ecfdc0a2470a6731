package logs

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
)

// What events measure: the only member of measured, by operation (cima-evidence(7),
// Operations). The bodies of launch and image are daemon/launch's; exit has none.
// Their canonical form is hashed, so tags must not change: a member that is empty is
// written unless its tag omits it.

// StartBody is measured.start: the daemon started. Event 0 is one, and each restart
// logs another.
type StartBody struct {
	Version    string           `json:"version"`
	Executable canonical.Digest `json:"executable"` // SHA-384 of the daemon's program
	AgentKey   AgentKey         `json:"agent_key"`
	BootID     string           `json:"boot_id"` // /proc/sys/kernel/random/boot_id

	// Register is the PCR that holds the log; nil: the log's anchor is another.
	Register *RegisterBody `json:"register,omitzero"`
}

// RegisterBody is measured.start.register: which PCR holds the log, and what it held
// before event 0. It is the same in each start of a boot.
type RegisterBody struct {
	PCR   int      `json:"pcr"`
	First pcr.Form `json:"first"`
}

// AgentKey is an Ed25519 public key (RFC 8032) of 32 bytes; in JSON standard base64.
type AgentKey []byte

// MarshalText writes standard base64.
func (k AgentKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, k), nil
}

// UnmarshalText reads standard base64 of 32 bytes without line breaks and loose bits.
func (k *AgentKey) UnmarshalText(text []byte) error {
	key := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := strictBase64.Decode(key, text)
	if err != nil || n != ed25519.PublicKeySize || len(text) != base64.StdEncoding.EncodedLen(n) {
		return fmt.Errorf("agent_key must be %d bytes in standard base64", ed25519.PublicKeySize)
	}
	*k = key[:n]
	return nil
}

// PolicyBody is measured.policy: the configuration in force from here on.
type PolicyBody struct {
	SHA384 canonical.Digest `json:"sha384"` // of its canonical form, with its defaults

	// What the administrator declared of the guest, and containers can't see: in clear.
	Data     []string `json:"data"`      // directories that hold data alone
	DataRead []string `json:"data_read"` // directories that containers may read
	Public   []string `json:"public"`    // variables whose values stand in launches
}

// SealBody is measured.seal: what the daemon found when it became ready.
type SealBody struct {
	Engines []string `json:"engines"` // "docker", "podman": those whose socket existed
	Running int      `json:"running"` // containers that ran before they could be measured
}

// SystemBody is measured.system: a service of the host that the configuration names.
type SystemBody struct {
	Path   string `json:"path"`
	SHA384 string `json:"sha384"`         // of the running executable's bytes, in hex
	Argv   []any  `json:"argv,omitempty"` // strings, or {"b64": …} for bytes that are not UTF-8
}

// PowerBody is measured.power: the means by which some container could act as root of
// the guest. It names no container, because all containers see it.
type PowerBody struct {
	Classes []string `json:"classes"` // cima-evidence(7), Classes of power
}

// MountedBody is measured.mounted: mounts of the container's first process that are of
// another place than the specification's text says, by destination. It has one member.
type MountedBody struct {
	Mounts       []MountedPlace    `json:"mounts,omitempty"`
	MountsSHA384 *canonical.Digest `json:"mounts_sha384,omitzero"` // of the canonical form of a list that is too large
}

// MountedPlace is where a mount leads. Each member is a string, or {"b64": …} for bytes
// that are not UTF-8.
type MountedPlace struct {
	Destination any `json:"destination"` // in the container
	Place       any `json:"place"`       // a path of the host, or "TYPE:PATH" where the file system is not mounted there
}

// maxMounted bounds the bytes of a list of mounts in an event.
const maxMounted = 64 << 10

// NewMountedBody makes the body of a list that is not empty.
func NewMountedBody(list []MountedPlace) (MountedBody, error) {
	form, err := canonical.Marshal(list)
	if err != nil || len(form) <= maxMounted {
		return MountedBody{Mounts: list}, err
	}
	digest := canonical.Digest(sha512.Sum384(form))
	return MountedBody{MountsSHA384: &digest}, nil
}

// ExecBody is measured.exec. A digest is of a file that nobody could write while it was
// hashed; a body without any digest meets no reference value.
type ExecBody struct {
	Path     string            `json:"path,omitempty"` // from the root of its file system
	SHA384   *canonical.Digest `json:"sha384,omitzero"`
	Verity   string            `json:"verity,omitempty"`  // fs-verity's digest, "sha256:…" or "sha512:…"
	Late     bool              `json:"late,omitzero"`     // it ran before executions were watched
	Writable bool              `json:"writable,omitzero"` // a process could write the file
	Missed   string            `json:"missed,omitempty"`  // why there is no digest
	Digest   string            `json:"digest,omitempty"`  // by another hash, as IMA writes it: "sha256:…"
}

// ExtendBody is measured.extend: an event of the container's own.
type ExtendBody struct {
	Domain    string `json:"domain"`
	Operation string `json:"operation"`
	Content   string `json:"content"`
}

// MissedBody is measured.missed: what could not be measured or logged. It is public, and
// so names no container.
type MissedBody struct {
	What  string `json:"what"` // MissedLaunch, MissedExec or MissedEvent
	Why   string `json:"why"`
	Count int    `json:"count"` // how often so far, in this boot
}

// Values of MissedBody.What.
const (
	MissedLaunch = "launch" // the start of a container
	MissedExec   = "exec"   // an execution
	MissedEvent  = "event"  // an event of any operation
)

// IMABody is measured.ima: new entries of the kernel's IMA log, where the kernel extends
// no RTMR with them.
type IMABody struct {
	From   int64            `json:"from"`   // number of the first entry, from 0
	Count  int64            `json:"count"`  // of entries
	SHA384 canonical.Digest `json:"sha384"` // of their lines as ascii_runtime_measurements shows them, each with its newline
}

// Values of claims.container.assurance.start.
const (
	StartGated    = "gated"    // measured before the container's first instruction
	StartObserved = "observed" // measured when the container was first seen
)

// Values of measured.launch.source.
const (
	SourceBundle = "bundle" // an OCI bundle that root wrote
	SourceEngine = "engine" // what the engine reported
	SourceUser   = "user"   // what a rootless engine wrote
	SourceNone   = "none"   // unknown: the container was gone
)

// Values of claims.log.anchor.
const (
	AnchorRTMR3      = "rtmr3"       // RTMR3 holds the log, and nothing else extends it
	AnchorPCR        = "pcr"         // a PCR of a TPM inside the TEE holds the log, and nothing else extends it
	AnchorReportData = "report-data" // only the claims hold the log: no register is the daemon's own
)
