//! Do the logs explain the registers? A register is 48 zero bytes, extended
//! with one digest after the other: SHA-384(register ‖ digest).

use crate::encoding::Digest;
use crate::error::Error;
use crate::records::{CcEventLog, EventRecord, SHA384};
use crate::sha512::sha384;

const EV_NO_ACTION: u32 = 3;
const CONTAINER: usize = 3;

/// How often a growing log is read again until the registers did not change meanwhile.
pub(crate) const ATTEMPTS: usize = 10;

/// SHA-384(register ‖ digest).
pub fn extend(register: Digest, digest: Digest) -> Digest {
    Digest(sha384(&[register.0, digest.0].concat()))
}

/// The registers that the records of the event log replay to: RTMR0–2 under 0–2, the
/// container register under 3.
///
/// Records of index 3 are compared with their digests. Boot events are not: in general no
/// digest covers their data.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a EventRecord>) -> Result<[Digest; 4], Error> {
    let mut registers = [Digest::ZERO; 4];
    for (position, event) in events.into_iter().enumerate() {
        let index = usize::from(event.imr_index);
        if event.rec_num != position || index > CONTAINER {
            return Err(Error::Replay(format!(
                "record {} must be record {position}: replay needs the whole log",
                event.rec_num
            )));
        }
        if event.event_type == EV_NO_ACTION && index != CONTAINER {
            continue;
        }
        let digest = sha384_of(event)?;
        if index == CONTAINER && digest.0 != sha384(&event.event) {
            return Err(Error::Replay(format!(
                "the digest of record {position} must be that of its event"
            )));
        }
        registers[index] = extend(registers[index], digest);
    }
    Ok(registers)
}

fn sha384_of(event: &EventRecord) -> Result<Digest, Error> {
    let mut found = event.digests.iter().filter(|d| d.algo_id == SHA384);
    let hash = found.next().and_then(|d| d.hash[..].try_into().ok());
    hash.map(Digest).ok_or_else(|| {
        Error::Replay(format!(
            "record {} must have a SHA-384 digest",
            event.rec_num
        ))
    })
}

/// The value that the log replays to, and the register's value.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// 0–2: RTMR0–2, 3: the container register.
    pub index: u8,
    /// The value that the log replays to.
    pub replayed: Digest,
    /// The register's value.
    pub register: Digest,
}

impl Comparison {
    /// Whether the log explains the register.
    pub fn equal(&self) -> bool {
        self.replayed == self.register
    }
}

pub(crate) fn compare(replayed: [Digest; 4], registers: &[Digest]) -> Vec<Comparison> {
    let both = (0..).zip(replayed).zip(registers);
    both.map(|((index, replayed), &register)| Comparison {
        index,
        replayed,
        register,
    })
    .collect()
}

/// The start of the page after the one at `start`.
pub(crate) fn next_start(start: usize, page: &CcEventLog) -> Result<Option<usize>, Error> {
    match page.next {
        Some(next) if next <= start => Err(Error::Protocol(format!(
            "the page after record {start} must not begin at {next}"
        ))),
        next => Ok(next),
    }
}
