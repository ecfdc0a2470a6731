//! May this call be repeated, and when?

use crate::error::{Code, Error};
use crate::wire::EXTEND;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one call is repeated while the daemon is away or says to come later.
pub(crate) struct Patience {
    extends: bool,
    end: Instant,
    tries: u32,
}

impl Patience {
    pub fn new(method: &str, patience: Duration) -> Self {
        Patience {
            extends: method == EXTEND,
            end: Instant::now() + patience,
            tries: 0,
        }
    }

    /// How long to wait before the call is repeated, or the error that ends the call.
    pub fn pause(&mut self, e: Error) -> Result<Duration, Error> {
        let asked = e.rpc().map(|e| e.retry_after()).unwrap_or_default();
        let backoff = Duration::from_millis(10 << self.tries.min(6));
        let wait = asked.max(backoff.mul_f64(0.5 + chance() / 2.0)); // random, so that clients don't all return at once
        self.tries += 1;
        if self.repeatable(&e) && Instant::now() + wait <= self.end {
            return Ok(wait);
        }
        Err(match e {
            Error::Broken(_, true) | Error::TimedOut(_) if self.extends => {
                Error::UnknownOutcome(Box::new(e))
            }
            Error::TurnedAway(e) => Error::Rpc(e),
            e => e,
        })
    }

    fn repeatable(&self, e: &Error) -> bool {
        match e {
            // The daemon answered that it has not carried out the request.
            Error::TurnedAway(_) => true,
            Error::Rpc(e) => {
                [Code::SHUTTING_DOWN, Code::NOT_READY, Code::RATE_LIMITED].contains(&e.code)
            }
            Error::Unreachable(_, e, _) => matches!(
                e.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::NotFound
                    | ErrorKind::WouldBlock
            ),
            Error::Broken(_, sent) => !sent || !self.extends,
            _ => false,
        }
    }
}

/// A number from 0 to 1, from the seed that hash maps get.
fn chance() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

pub(crate) fn unreachable(path: &Path, e: io::Error) -> Error {
    let there = path.parent().is_some_and(Path::is_dir);
    let former = path
        .file_name()
        .is_some_and(|name| name == "cima-server.sock");
    let hint = match e.kind() {
        ErrorKind::NotFound if former => {
            "that was CIMA 0.5's socket: name /run/cima/cima.sock, and mount its directory (-v /run/cima:/run/cima:ro)"
        }
        ErrorKind::NotFound if !there => {
            "in a container: mount /run/cima (-v /run/cima:/run/cima:ro); on the host: systemctl start cimad, and cimactl doctor says what is missing"
        }
        ErrorKind::NotFound => "cimad is not running: systemctl start cimad, on the host; if that changes nothing, cimactl doctor says why",
        ErrorKind::NotADirectory => {
            "the socket is mounted in its directory's place: mount the directory (-v /run/cima:/run/cima:ro)"
        }
        ErrorKind::PermissionDenied => "SELinux or AppArmor may forbid containers to connect",
        ErrorKind::ConnectionRefused => {
            "nobody listens: systemctl status cimad; a container mounts the directory, not the socket"
        }
        ErrorKind::WouldBlock => "more connections wait than the kernel queues: try again",
        _ => "see systemctl status cimad",
    };
    Error::Unreachable(path.into(), e, hint)
}
