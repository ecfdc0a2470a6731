//! Digests and events of the TCG, and their constants.

use super::api_data::ReplayResult;
use super::binary_blob::dump_data;
use crate::records::EventRecord;
use crate::replay::extend;
use crate::{Digest, Error};
use log::info;
use std::collections::BTreeMap;

/// Declares numbers, and how each is called.
macro_rules! numbers {
    ($type:ty, $name_of:ident, $unknown:literal, $($name:ident = $value:literal),+ $(,)?) => {
        $(#[allow(missing_docs)] pub const $name: $type = $value;)+

        /// The name of a number.
        pub fn $name_of(value: $type) -> &'static str {
            match value {
                $($name => stringify!($name),)+
                _ => $unknown,
            }
        }
    };
}

numbers! { u16, algorithm_name, "UNKNOWN",
    TPM_ALG_ERROR = 0x0,
    TPM_ALG_RSA = 0x1,
    TPM_ALG_SHA1 = 0x4,
    TPM_ALG_SHA256 = 0xB,
    TPM_ALG_SHA384 = 0xC,
    TPM_ALG_SHA512 = 0xD,
    TPM_ALG_ECDSA = 0x18,
}

numbers! { u32, event_type_name, "UNKNOWN",
    EV_PREBOOT_CERT = 0x0,
    EV_POST_CODE = 0x1,
    EV_UNUSED = 0x2,
    EV_NO_ACTION = 0x3,
    EV_SEPARATOR = 0x4,
    EV_ACTION = 0x5,
    EV_EVENT_TAG = 0x6,
    EV_S_CRTM_CONTENTS = 0x7,
    EV_S_CRTM_VERSION = 0x8,
    EV_CPU_MICROCODE = 0x9,
    EV_PLATFORM_CONFIG_FLAGS = 0xa,
    EV_TABLE_OF_DEVICES = 0xb,
    EV_COMPACT_HASH = 0xc,
    EV_IPL = 0xd,
    EV_IPL_PARTITION_DATA = 0xe,
    EV_NONHOST_CODE = 0xf,
    EV_NONHOST_CONFIG = 0x10,
    EV_NONHOST_INFO = 0x11,
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12,
    EV_POST_CODE2 = 0x13,
    IMA_MEASUREMENT_EVENT = 0x14,
    EV_EFI_EVENT_BASE = 0x80000000,
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001,
    EV_EFI_VARIABLE_BOOT = 0x80000002,
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003,
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004,
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005,
    EV_EFI_GPT_EVENT = 0x80000006,
    EV_EFI_ACTION = 0x80000007,
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008,
    EV_EFI_HANDOFF_TABLES = 0x80000009,
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000a,
    EV_EFI_HANDOFF_TABLES2 = 0x8000000b,
    EV_EFI_VARIABLE_BOOT2 = 0x8000000c,
    EV_EFI_GPT_EVENT2 = 0x8000000d,
    EV_EFI_HCRTM_EVENT = 0x80000010,
    EV_EFI_VARIABLE_AUTHORITY = 0x800000e0,
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000e1,
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000e2,
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000e3,
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000e4,
}

/// An algorithm of the TCG's registry.
pub trait TcgAlgorithmRegistry {
    /// Its number.
    fn get_algorithm_id(&self) -> u16;
    /// Its name.
    fn get_algorithm_id_str(&self) -> String;
}

/// A digest and its algorithm.
#[derive(Clone, Debug)]
pub struct TcgDigest {
    /// The algorithm's number.
    pub algo_id: u16,
    /// The digest.
    pub hash: Vec<u8>,
}

impl TcgDigest {
    /// Logs it.
    pub fn show(&self) {
        info!("algo = {}", algorithm_name(self.algo_id));
        info!("hash = {:02X?}", self.hash);
    }

    /// The digest.
    pub fn get_hash(&self) -> Vec<u8> {
        self.hash.clone()
    }
}

impl TcgAlgorithmRegistry for TcgDigest {
    fn get_algorithm_id(&self) -> u16 {
        self.algo_id
    }

    fn get_algorithm_id_str(&self) -> String {
        algorithm_name(self.algo_id).into()
    }
}

/// An event with TCG_PCR_EVENT2's members; `imr_index` 3 is the container register.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct TcgImrEvent {
    pub imr_index: u32,
    pub event_type: u32,
    pub digests: Vec<TcgDigest>,
    pub event_size: u32,
    pub event: Vec<u8>,
}

/// The header of a boot log, which the daemon leaves out.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct TcgPcClientImrEvent {
    pub imr_index: u32,
    pub event_type: u32,
    pub digest: [u8; 20],
    pub event_size: u32,
    pub event: Vec<u8>,
}

/// Nothing, as in CIMA 0.5.
#[derive(Clone, Debug)]
pub struct TcgCanonicalEvent {}

/// An entry of the event log. Here it is always a `TcgImrEvent`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum EventLogEntry {
    TcgImrEvent(TcgImrEvent),
    TcgPcClientImrEvent(TcgPcClientImrEvent),
    TcgCanonicalEvent(TcgCanonicalEvent),
}

impl From<EventRecord> for EventLogEntry {
    fn from(r: EventRecord) -> Self {
        let digest = |d: crate::EventDigest| TcgDigest {
            algo_id: d.algo_id,
            hash: d.hash,
        };
        EventLogEntry::TcgImrEvent(TcgImrEvent {
            imr_index: r.imr_index.into(),
            event_type: r.event_type,
            digests: r.digests.into_iter().map(digest).collect(),
            event_size: r.event_size as u32,
            event: r.event,
        })
    }
}

impl EventLogEntry {
    /// Logs it.
    pub fn show(&self) {
        if let EventLogEntry::TcgImrEvent(event) = self {
            event.show();
        }
    }
}

impl TcgImrEvent {
    /// Logs it.
    pub fn show(&self) {
        info!("Event log entry");
        info!("IMR               : {}", self.imr_index);
        let name = event_type_name(self.event_type);
        info!("Type              : 0x{:X} ({name})", self.event_type);
        for (i, digest) in self.digests.iter().enumerate() {
            let name = algorithm_name(digest.algo_id);
            info!("Algorithm_id[{i}]   : {} ({name})", digest.algo_id);
            info!("Digest[{i}]:");
            dump_data(&digest.hash);
        }
        info!("Event:");
        dump_data(&self.event);
    }
}

/// The registers that events replay to, in SHA-384.
pub(super) fn replay(events: &[EventLogEntry]) -> Result<Vec<ReplayResult>, Error> {
    let mut registers: BTreeMap<u32, Digest> = BTreeMap::new();
    for event in events {
        let EventLogEntry::TcgImrEvent(event) = event else {
            continue;
        };
        if event.event_type == EV_NO_ACTION && event.imr_index != 3 {
            continue;
        }
        let mut found = event.digests.iter().filter(|d| d.algo_id == TPM_ALG_SHA384);
        let hash = found.next().and_then(|d| d.hash[..].try_into().ok());
        let hash = hash.ok_or_else(|| Error::Replay("an event has no SHA-384 digest".into()))?;
        let register = registers.entry(event.imr_index).or_insert(Digest::ZERO);
        *register = extend(*register, Digest(hash));
    }
    let result = |(imr_index, register): (u32, Digest)| ReplayResult {
        imr_index,
        digests: vec![TcgDigest {
            algo_id: TPM_ALG_SHA384,
            hash: register.0.to_vec(),
        }],
    };
    Ok(registers.into_iter().map(result).collect())
}
