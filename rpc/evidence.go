package rpc

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/json/jsontext"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Profiles name the rules that evidence and claims follow (RFC 9711, eat_profile).
const (
	EvidenceProfile = "https://github.com/cima-project/cima/evidence/v2"
	ClaimsProfile   = "https://github.com/cima-project/cima/claims/v2"
)

// Values of LogClaims.View.
const (
	ViewWhole   = "whole"   // without isolation: every event is shown to every caller
	ViewPrivate = "private" // not even digests of others' events are shown: the log doesn't replay
)

// agentContext is in every message that the agent signs, so that the signature can't
// mean anything else.
const agentContext = "cima-agent-v1"

// Evidence is what a container sends to a relying party (RFC 9334): a quote, the claims
// that it is bound to, and the logs that explain its registers. cima-evidence(7)
// specifies it.
type Evidence struct {
	Profile string `json:"profile" oneof:"https://github.com/cima-project/cima/evidence/v2"` // EvidenceProfile
	TEE     string `json:"tee" within:"1..4096"`                                             // who signs: "tdx", "snp", "azure-tdx", "azure-snp"
	Quote   []byte `json:"quote" within:"1.."`                                               // a TDX quote, or an SNP report, and nothing after it

	// Platform is what else the platform signed, or gives to judge Quote by; none of a TD.
	Platform Platform `json:"platform,omitzero"`

	// Claims as they were hashed: bytes, so that a member that this version
	// doesn't know counts too.
	Claims jsontext.Value `json:"claims"`

	// Shared is the place of the claims in a quote that others share; nil: the
	// quote is over these claims alone.
	Shared *Shared `json:"shared,omitzero"`

	// AgentSignature is Ed25519 over "cima-agent-v1" ‖ SHA-512(JCS(claims))
	// by the key in the start event, whether the quote is shared or not.
	AgentSignature []byte `json:"agent_signature" within:"1..4096"`

	BootLog    []byte     `json:"boot_log"` // CCEL, up to its padding
	OSLogs     []OSLog    `json:"os_logs,omitempty" within:"1.."`
	RuntimeLog []LogEntry `json:"runtime_log"`
}

// Platform is what stands beside a quote where the platform is no TD of its own
// (cima-platforms(7)).
type Platform struct {
	// Certificates of an SNP report, as the host gave them, each DER: leaf, intermediate, root.
	Certificates [][]byte `json:"certificates,omitempty" within:"1..8"`

	// Where a vTPM inside the TEE signs the claims: Quote is over RuntimeData, RuntimeData
	// names the TPM's key, and the key signed TPMQuote, over the claims and the PCRs.
	RuntimeData  []byte `json:"runtime_data,omitempty" within:"1..4096"`  // the paravisor's JSON, as it was hashed
	TPMQuote     []byte `json:"tpm_quote,omitempty" within:"1..4096"`     // TPMS_ATTEST
	TPMSignature []byte `json:"tpm_signature,omitempty" within:"1..4096"` // TPMT_SIGNATURE
	PCRs         []byte `json:"pcrs,omitempty" within:"1..4096"`          // values of PCRs 0–23 in the bank that TPMQuote names
}

// OSLog is a log, or a part of one, of what the operating system extended an RTMR with.
type OSLog struct {
	Register string `json:"register" within:"1..4096"` // "rtmr2"
	Format   string `json:"format" within:"1..4096"`   // FormatIMA, FormatIMADigests
	Entries  []byte `json:"entries"`
}

// Formats of an OSLog. Entries of other containers are shown as digests.
const (
	FormatIMA        = "ima-ascii"   // lines of ascii_runtime_measurements
	FormatIMADigests = "ima-digests" // n × 48 bytes: what extended the register
)

// LogEntry is one whole event of the runtime log, or the digests of a run of events of
// other containers. Exactly one member is set.
type LogEntry struct {
	Event   []byte `json:"event,omitempty" within:"1.."`    // logs.Event's bytes
	Digests []byte `json:"digests,omitempty" within:"48.."` // n × 48 bytes, n ≥ 1
}

// Claims is what the agent says and the quote binds: REPORTDATA =
// SHA-512(RFC 8785 form of the claims), unless the quote is shared.
type Claims struct {
	_ canonical.Open

	Profile   string           `json:"profile" oneof:"https://github.com/cima-project/cima/claims/v2"` // ClaimsProfile
	Agent     Digest           `json:"agent"`                                                          // SHA-384 of the agent's 32-byte Ed25519 public key
	Nonce     []byte           `json:"nonce" within:"8..64"`                                           // the verifier's, 8 to 64 bytes
	UserData  []byte           `json:"user_data,omitempty" within:"0..4096"`                           // the caller's, up to 4 KiB
	Container *ContainerClaims `json:"container,omitzero"`                                             // this, or Host
	Host      *HostClaims      `json:"host,omitzero"`
	BootLog   Digest           `json:"boot_log"` // SHA-384 of Evidence.BootLog

	// BootLogFormat is "tpm" for a log of PCRs, "none" where nothing in the TEE logged the
	// boot; absent for a CCEL.
	BootLogFormat string `json:"boot_log_format,omitempty" oneof:"tpm none"`

	OSLogs *Digest   `json:"os_logs,omitzero"` // OSLogsDigest of Evidence.OSLogs; absent if there are none
	Log    LogClaims `json:"log"`
}

// ContainerClaims is the container that asked.
type ContainerClaims struct {
	_ canonical.Open

	ID          string `json:"id" within:"1..4096"` // as in the log: with "uid/" before it if the record is a user's
	Runtime     string `json:"runtime" within:"0..4096"`
	Image       string `json:"image,omitempty" within:"0..4096"`        // reference, as measured
	ImageDigest string `json:"image_digest,omitempty" within:"0..4096"` // config digest, "sha256:…"

	// LaunchDigest is of what was asked for, of which image, and DefaultsDigest of what the
	// engine added (cima-evidence(7), Registers). Both are absent, and zero here, where a
	// daemon of an earlier version logged the launch.
	LaunchDigest   Digest `json:"launch_digest,omitzero"`
	DefaultsDigest Digest `json:"defaults_digest,omitzero"`

	Register  Digest    `json:"register"` // container register at Log.Count
	Assurance Assurance `json:"assurance"`
	Pod       PodClaims `json:"pod,omitzero"` // that it is of, by the word of containerd's CRI plugin
}

// PodClaims is a pod of Kubernetes.
type PodClaims struct {
	_ canonical.Open

	Namespace string `json:"namespace,omitempty" within:"1..253"`
	Name      string `json:"name,omitempty" within:"1..253"`
	UID       string `json:"uid,omitempty" within:"1..253"`
	Container string `json:"container,omitempty" within:"1..253"` // none: the pod's first, which holds its namespaces
}

// String tells a pod so that no two are told alike.
func (p PodClaims) String() string {
	return fmt.Sprintf("%q/%q, container %q, uid %q", p.Namespace, p.Name, p.Container, p.UID)
}

// Assurance says how sure the daemon is of a caller.
type Assurance struct {
	_ canonical.Open

	Start       string `json:"start" within:"0..4096"`    // "gated" or "observed"
	PIDFD       bool   `json:"pidfd"`                     // the kernel named the process itself, not its number
	CgroupOwner uint32 `json:"cgroup_owner"`              // uid that owns the cgroup chain
	Metadata    string `json:"metadata" within:"0..4096"` // the sources of the facts: "bundle", "bundle+engine"
}

// HostClaims is the process outside all containers that asked.
type HostClaims struct {
	_ canonical.Open

	Unit string `json:"unit,omitempty" within:"0..4096"` // systemd unit, from its cgroup
	UID  uint32 `json:"uid"`
}

// LogClaims is the state of the runtime log when the claims were fixed.
type LogClaims struct {
	_ canonical.Open

	Count    int    `json:"count" within:"0..2147483647"` // events
	Register Digest `json:"register"`                     // the replay of that many: RTMR3
	Public   Digest `json:"public"`                       // public register at that point
	Anchor   string `json:"anchor" within:"1..4096"`      // "rtmr3", "pcr", or "report-data" if no register is the daemon's own

	// PublicCount is how many of the events are public: a verifier that can't compute the
	// public register notices by it that one is hidden.
	PublicCount int `json:"public_count,omitzero" within:"0..2147483647"`

	// View is ViewWhole if other containers' events are shown, ViewPrivate if
	// nothing of them is shown; absent if they are shown as digests.
	View string `json:"view,omitempty" within:"1..4096"`
}

// ReportData hashes claims as they were received: SHA-512 over their RFC 8785 form.
// Trustee computes the same over runtime_data.structured.
func ReportData(claims jsontext.Value) ([64]byte, error) {
	form, err := canonical.Marshal(claims)
	if err != nil {
		return [64]byte{}, fmt.Errorf("claims: %w", err)
	}
	return sha512.Sum512(form), nil
}

// OSLogsDigest is SHA-384 over the RFC 8785 form of the member os_logs.
func OSLogsDigest(list []OSLog) Digest {
	whole := make([]OSLog, len(list)) // none of them null
	for i, log := range list {
		whole[i] = log
		if log.Entries == nil {
			whole[i].Entries = []byte{}
		}
	}
	digest, err := canonical.Sum(whole)
	if err != nil {
		panic(err) // strings and bytes can always be written
	}
	return digest
}

// SignReportData signs as the agent does.
func SignReportData(key ed25519.PrivateKey, data [64]byte) []byte {
	return ed25519.Sign(key, append([]byte(agentContext), data[:]...))
}

// VerifyReportData checks the agent's signature.
func VerifyReportData(key ed25519.PublicKey, data [64]byte, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize &&
		ed25519.Verify(key, append([]byte(agentContext), data[:]...), signature)
}
