//! How does a Rust program ask cimad?
//!
//! [`Client`] blocks; `AsyncClient` (feature `tokio`) doesn't. Both have the
//! calls of cima-api(7), page through the event log and replay it.
//!
//! ```no_run
//! # fn main() -> Result<(), cima_client::Error> {
//! use cima_client::{Client, Quote};
//!
//! let cima = Client::new(None);
//! let bundle = cima.get_evidence(b"the relying party's nonce", None, Quote::Own)?;
//! println!("{}", bundle.raw());
//! # Ok(())
//! # }
//! ```
//!
//! It depends on serde alone. SHA-384 and SHA-512 for the replay are its own
//! ([`sha512`]): they hash public bytes, so their use of time and memory reveals no
//! secret, and they are tested with FIPS 180-4's vectors and the recorded bundles.
//!
//! Nothing here checks a signature: to check whether evidence is true, use `cimactl
//! verify`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "tokio")]
mod asynchronous;
pub mod atls;
mod canonical;
mod client;
#[cfg(feature = "compat")]
pub mod compat;
mod encoding;
mod error;
pub mod evidence;
mod pipeline;
mod platforms;
pub mod quote;
mod records;
pub mod replay;
mod retry;
mod runtime_log;
pub mod sha512;
mod shared;
pub mod tree;
mod wire;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncClient, AsyncEvents};
pub use client::{Client, Events};
pub use encoding::Digest;
pub use error::{Code, Error, RpcError};
pub use evidence::Evidence;
pub use records::{
    Assurance, CcEventLog, CcMeasurement, CcReport, ContainerIdentity, DefaultAlgorithm,
    EventDigest, EventRecord, Extended, FormedEvidence, HostIdentity, Identity, Measurements, Pod,
};
pub use shared::{Quote, Shared};

use std::time::Duration;

/// The daemon's socket, and how long to wait for the daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket; without it $CIMA_SOCKET, else /run/cima/cima.sock.
    pub path: Option<std::path::PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a call is repeated: while the socket isn't there yet or nobody listens, after
    /// a lost connection, and where the daemon says when to come again and that is within
    /// it. An extend is repeated only if it certainly was not carried out.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            path: None,
            timeout: Duration::from_secs(60),
            patience: Duration::from_secs(2),
        }
    }
}
