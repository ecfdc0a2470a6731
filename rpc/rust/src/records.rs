//! What do the daemon's methods give? Each is a result of cima-api(7), its
//! members under the names there.

use crate::encoding::{base64_bytes, hex_bytes, present, Digest};
use crate::shared::Shared;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// TPM_ALG_SHA384 of the TCG Algorithm Registry, the only algo_id.
pub(crate) const SHA384: u16 = 12;

/// The algorithm of every digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DefaultAlgorithm {
    /// 12, TPM_ALG_SHA384 of the TCG Algorithm Registry.
    pub algo_id: u16,
    /// "sha384".
    pub algorithm: String,
}

#[derive(Deserialize)]
pub(crate) struct MeasurementCount {
    pub count: u8,
}

/// The value of one register.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CcMeasurement {
    /// 0–2: RTMR0–2, 3: the caller's container register.
    pub index: u8,
    /// 12, SHA-384.
    pub algo_id: u16,
    /// What the register holds.
    pub hash: Digest,
}

/// One page of the event log; `next` is the start of the next one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CcEventLog {
    /// The records, in order.
    pub events: Vec<EventRecord>,
    /// Records in the whole log.
    pub total: usize,
    /// Where the next page begins; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// One event: of RTMR0–2 (`imr_index` 0–2), or of the container register (3).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EventRecord {
    /// Position in the log, from 0.
    pub rec_num: usize,
    /// 0–2: RTMR0–2, 3: the container register.
    pub imr_index: u8,
    /// As in the TCG PC Client Platform Firmware Profile.
    pub event_type: u32,
    /// One for each algorithm.
    pub digests: Vec<EventDigest>,
    /// Bytes of `event`.
    pub event_size: usize,
    /// What was measured: at index 3 JCS(measured), else as the firmware wrote it, which in general is under no digest.
    #[serde(with = "base64_bytes")]
    pub event: Vec<u8>,
    /// At index 3 `rtmr3_digest`: what extended RTMR3, in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_info: BTreeMap<String, String>,
}

/// One digest of an event.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EventDigest {
    /// Of the TCG Algorithm Registry.
    pub algo_id: u16,
    /// As long as the algorithm's digests are.
    #[serde(with = "hex_bytes")]
    pub hash: Vec<u8>,
}

/// A quote and the claims that it is bound to.
/// [`evidence::report_data`](crate::evidence::report_data) says from them and
/// `shared` what the quote's REPORTDATA is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CcReport {
    /// 1: Intel TDX.
    pub cc_type: u8,
    /// The quote.
    #[serde(with = "base64_bytes")]
    pub cc_report: Vec<u8>,
    /// As they came.
    pub claims: Box<RawValue>,
    /// None where the quote is the caller's alone.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub shared: Option<Shared>,
    /// Ed25519 by the agent's key, 64 bytes.
    #[serde(with = "base64_bytes")]
    pub agent_signature: Vec<u8>,
}

/// Evidence in another form than CIMA's own.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FormedEvidence {
    /// The form's name.
    pub format: String,
    /// The whole in that form, text or not.
    #[serde(with = "base64_bytes")]
    pub content: Vec<u8>,
}

/// All registers by name; a caller in no container has neither container
/// register nor launch digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Measurements {
    /// What the TD was built of.
    pub mrtd: Digest,
    /// Firmware.
    pub rtmr0: Digest,
    /// Boot loader and kernel.
    pub rtmr1: Digest,
    /// What was loaded later.
    pub rtmr2: Digest,
    /// The runtime log.
    pub rtmr3: Digest,
    /// The caller's container register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Digest>,
    /// The public events.
    pub public: Digest,
    /// Of the container's latest launch and its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<Digest>,
}

/// Where an event of the container's own went.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Extended {
    /// 3, the container register.
    pub index: u8,
    /// SHA-384(JCS(measured)), what extended it.
    pub digest: Digest,
}

/// The caller as the daemon sees it; one of `container` and `host` is there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Identity {
    /// In the daemon's pid namespace, as of connect().
    pub pid: i32,
    /// As the kernel maps it for the daemon.
    pub uid: u32,
    /// As the kernel maps it for the daemon.
    pub gid: u32,
    /// Which container asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerIdentity>,
    /// Or which process in no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostIdentity>,
}

/// Which container, and how sure that is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ContainerIdentity {
    /// The engine's; "uid/" before it where the record is a user's.
    pub id: String,
    /// "docker", "podman", …
    pub runtime: String,
    /// The image's reference; empty where it isn't known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Its config digest, "sha256:…"; empty where it isn't known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    /// None until the launch is in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<Digest>,
    /// The declared path, from the hierarchy's root.
    pub cgroup: String,
    /// How sure that is.
    pub assurance: Assurance,
}

/// How sure the daemon is of a caller.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Assurance {
    /// "gated": measured before its first instruction, or "observed".
    pub start: String,
    /// The kernel named the very process, not a number.
    pub pidfd: bool,
    /// The uid that owns the cgroup chain.
    pub cgroup_owner: u32,
    /// Where the facts came from: "bundle", "bundle+engine".
    pub metadata: String,
}

/// A process in no container.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HostIdentity {
    /// The process's.
    pub uid: u32,
    /// Its systemd unit; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}
