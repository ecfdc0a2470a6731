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
#[allow(missing_docs)]
pub struct DefaultAlgorithm {
    pub algo_id: u16,
    pub algorithm: String,
}

#[derive(Deserialize)]
pub(crate) struct MeasurementCount {
    pub count: u8,
}

/// The value of one register.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CcMeasurement {
    pub index: u8,
    pub algo_id: u16,
    pub hash: Digest,
}

/// One page of the event log; `next` is the start of the next one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CcEventLog {
    pub events: Vec<EventRecord>,
    pub total: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// One event: of RTMR0–2 (`imr_index` 0–2), or of the container register (3).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct EventRecord {
    pub rec_num: usize,
    pub imr_index: u8,
    pub event_type: u32,
    pub digests: Vec<EventDigest>,
    pub event_size: usize,
    #[serde(with = "base64_bytes")]
    pub event: Vec<u8>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_info: BTreeMap<String, String>,
}

/// One digest of an event.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct EventDigest {
    pub algo_id: u16,
    #[serde(with = "hex_bytes")]
    pub hash: Vec<u8>,
}

/// A quote and the claims that it is bound to.
/// [`evidence::report_data`](crate::evidence::report_data) says from them and
/// `shared` what the quote's REPORTDATA is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs)]
pub struct CcReport {
    /// 1: Intel TDX.
    pub cc_type: u8,
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
#[allow(missing_docs)]
pub struct Measurements {
    pub mrtd: Digest,
    pub rtmr0: Digest,
    pub rtmr1: Digest,
    pub rtmr2: Digest,
    pub rtmr3: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Digest>,
    pub public: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<Digest>,
}

/// Where an event of the container's own went.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Extended {
    pub index: u8,
    pub digest: Digest,
}

/// The caller as the daemon sees it; one of `container` and `host` is there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Identity {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerIdentity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostIdentity>,
}

/// Which container, and how sure that is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ContainerIdentity {
    pub id: String,
    pub runtime: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_digest: Option<Digest>,
    pub cgroup: String,
    pub assurance: Assurance,
}

/// How sure the daemon is of a caller.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Assurance {
    pub start: String,
    pub pidfd: bool,
    pub cgroup_owner: u32,
    pub metadata: String,
}

/// A process in no container.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct HostIdentity {
    pub uid: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}
