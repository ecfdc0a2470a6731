//! The calls, as traits.

use super::api_data::{Algorithm, CcReport, ExtraArgs, ReplayResult};
use super::tcg::{replay, EventLogEntry, TcgDigest};
use crate::Error;

/// The calls of the SDK.
pub trait EvidenceApi {
    /// The quote. `nonce` and `data` are base64; without a nonce a random one is drawn,
    /// and such a report proves no freshness.
    fn get_cc_report(
        nonce: Option<String>,
        data: Option<String>,
        extra_args: ExtraArgs,
    ) -> Result<CcReport, Error>;

    /// Logs a quote in hex.
    #[allow(clippy::ptr_arg)] // as it was
    fn dump_cc_report(report: &Vec<u8>);

    /// How many registers there are: 4, on the host 3.
    fn get_measurement_count() -> Result<u8, Error>;

    /// One register: 0–2 are RTMR0–2, 3 is the container's.
    fn get_cc_measurement(index: u8, algo_id: u16) -> Result<TcgDigest, Error>;

    /// `count` events from number `start` on; without `count` all of them.
    fn get_cc_eventlog(start: Option<u32>, count: Option<u32>)
        -> Result<Vec<EventLogEntry>, Error>;

    /// The algorithm of every digest: SHA-384.
    fn get_default_algorithm() -> Result<Algorithm, Error>;

    /// The registers that events replay to.
    fn replay_cc_eventlog(eventlogs: Vec<EventLogEntry>) -> Result<Vec<ReplayResult>, Error> {
        replay(&eventlogs)
    }
}

/// Reads a quote.
pub trait ParseCcReport<T> {
    /// Reads the bytes of a quote.
    fn parse_cc_report(report: Vec<u8>) -> Result<T, Error>;
}
