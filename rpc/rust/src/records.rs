//! What do the daemon's methods return? Each type is a result of cima-api(7), its members
//! under the names there.

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
    /// The register's value.
    pub hash: Digest,
}

/// One page of the event log; `next` is the start of the next one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CcEventLog {
    /// The records, in order.
    pub events: Vec<EventRecord>,
    /// Records in the whole log.
    pub total: usize,
    /// The start of the next page; none on the last.
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
    /// Event type of the TCG PC Client Platform Firmware Profile.
    pub event_type: u32,
    /// One for each algorithm.
    pub digests: Vec<EventDigest>,
    /// Bytes of `event`.
    pub event_size: usize,
    /// The event's data: at index 3 JCS(measured), otherwise as the firmware wrote it; in
    /// general no digest covers the firmware's data.
    #[serde(with = "base64_bytes")]
    pub event: Vec<u8>,
    /// At index 3 `rtmr3_digest`: the digest that extended RTMR3, in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_info: BTreeMap<String, String>,
}

/// One digest of an event.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EventDigest {
    /// The algorithm's number in the TCG Algorithm Registry.
    pub algo_id: u16,
    /// As long as the algorithm's digests are.
    #[serde(with = "hex_bytes")]
    pub hash: Vec<u8>,
}

/// A quote and the claims that it is bound to.
/// [`evidence::report_data`](crate::evidence::report_data) computes the quote's
/// REPORTDATA from them and `shared`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CcReport {
    /// 1: Intel TDX.
    pub cc_type: u8,
    /// The quote.
    #[serde(with = "base64_bytes")]
    pub cc_report: Vec<u8>,
    /// The claims as they came.
    pub claims: Box<RawValue>,
    /// None if the quote is not shared.
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
    /// The evidence in that form, text or not.
    #[serde(with = "base64_bytes")]
    pub content: Vec<u8>,
}

/// All registers by name; a caller on the host has neither container register nor launch
/// digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Measurements {
    /// The measurement of the TD's initial contents.
    pub mrtd: Digest,
    /// RTMR0: firmware.
    pub rtmr0: Digest,
    /// RTMR1: boot loader and kernel.
    pub rtmr1: Digest,
    /// RTMR2: what was loaded later.
    pub rtmr2: Digest,
    /// RTMR3: the runtime log.
    pub rtmr3: Digest,
    /// The caller's container register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Digest>,
    /// The register of the public events.
    pub public: Digest,
    /// The launch digest: of the container's latest launch and its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<Digest>,
}

/// The register and digest of an event that the container made.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Extended {
    /// 3, the container register.
    pub index: u8,
    /// SHA-384(JCS(measured)), the digest that extended it.
    pub digest: Digest,
}

/// The caller's identity as the daemon sees it; one of `container` and `host` is there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Identity {
    /// The process id in the daemon's pid namespace, at connect().
    pub pid: i32,
    /// The user id, as the kernel maps it for the daemon.
    pub uid: u32,
    /// The group id, as the kernel maps it for the daemon.
    pub gid: u32,
    /// The caller's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerIdentity>,
    /// Or the caller's process on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostIdentity>,
}

/// The caller's container, and how it was identified.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ContainerIdentity {
    /// The engine's id; with "uid/" in front if the record is a user's.
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
    /// How the container was identified.
    pub assurance: Assurance,
    /// The pod that the container is of, by the word of containerd's CRI plugin; None for
    /// none, and until the launch is in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

/// A pod of Kubernetes, and which of its containers this is. What isn't known is empty;
/// a pod's first container, which holds its namespaces, has no name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Pod {
    /// The pod's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The pod's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The pod's uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The container's name in the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
}

/// How the daemon identified a caller.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Assurance {
    /// "gated": measured before its first instruction, or "observed".
    pub start: String,
    /// The kernel named the process itself, not a number.
    pub pidfd: bool,
    /// The uid that owns the cgroup chain.
    pub cgroup_owner: u32,
    /// Where the facts came from: "bundle", "bundle+engine".
    pub metadata: String,
}

/// A process on the host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HostIdentity {
    /// The process's user id.
    pub uid: u32,
    /// Its systemd unit; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}
