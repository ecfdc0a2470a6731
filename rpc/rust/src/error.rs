//! What can go wrong, and what does a caller do about it?

use serde::{Deserialize, Serialize};
use std::{fmt, io, path::PathBuf, time::Duration};

/// Codes of errors that the daemon returns (cima-api(7), ERRORS).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Code(pub i64);

impl Code {
    /// The line is not JSON.
    pub const PARSE_ERROR: Code = Code(-32700);
    /// The JSON is not a request.
    pub const INVALID_REQUEST: Code = Code(-32600);
    /// No such method on this socket.
    pub const METHOD_NOT_FOUND: Code = Code(-32601);
    /// Invalid parameters; `member` names the wrong one.
    pub const INVALID_PARAMS: Code = Code(-32602);
    /// An internal error: the daemon's journal has the details.
    pub const INTERNAL_ERROR: Code = Code(-32603);
    /// The daemon can't identify the caller.
    pub const UNATTRIBUTED: Code = Code(-32001);
    /// The caller may not do this.
    pub const DENIED: Code = Code(-32002);
    /// Repeat the request after `retry_after_ms`.
    pub const RATE_LIMITED: Code = Code(-32003);
    /// The hardware did not answer; `errno` is the kernel's.
    pub const TEE_UNAVAILABLE: Code = Code(-32004);
    /// A line, a parameter or a reply is above its `limit`.
    pub const TOO_LARGE: Code = Code(-32005);
    /// Log and register disagree: no evidence until the next boot.
    pub const LOG_INCONSISTENT: Code = Code(-32006);
    /// The daemon is stopping: connect again.
    pub const SHUTTING_DOWN: Code = Code(-32007);
    /// Something is not known yet: repeat the request after `retry_after_ms`.
    pub const NOT_READY: Code = Code(-32008);
}

/// The error that the daemon returned.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RpcError {
    /// What kind of error it is.
    pub code: Code,
    /// What happened and what to do.
    pub message: String,
    /// The members that the code has: retry_after_ms, errno, member, limit, agreed.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub data: serde_json::Map<String, serde_json::Value>,
}

impl RpcError {
    /// After how long the same request can succeed; zero if the daemon gave no time.
    pub fn retry_after(&self) -> Duration {
        let ms = self.data.get("retry_after_ms").and_then(|v| v.as_u64());
        Duration::from_millis(ms.unwrap_or(0))
    }
}

/// An error of a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The daemon returned an error.
    Rpc(RpcError),
    /// The daemon could not be reached. The text says what the reason may be.
    Unreachable(PathBuf, io::Error, &'static str),
    /// The connection ended before an answer. Whether the request had been sent by then.
    Broken(io::Error, bool),
    /// No answer arrived in time.
    TimedOut(Duration),
    /// An extend was sent and no answer arrived: it is not known whether the daemon
    /// carried it out. The event log shows whether it did.
    UnknownOutcome(Box<Error>),
    /// The reply is not one that cima-api(7) describes.
    Protocol(String),
    /// A bundle is not as cima-evidence(7) requires.
    Malformed(String),
    /// A log can't be replayed.
    Replay(String),
    /// What the caller gave can't be used.
    Unusable(String),
    /// The daemon refused the connection; callers get this error only when the time to
    /// retry is over.
    #[doc(hidden)]
    TurnedAway(RpcError),
}

impl Error {
    /// The daemon's error, if it is one.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Error::Rpc(e) | Error::TurnedAway(e) => Some(e),
            _ => None,
        }
    }

    /// The same error for another who waited for the same answer.
    pub(crate) fn again(&self) -> Error {
        let same = |e: &io::Error| io::Error::new(e.kind(), e.to_string());
        match self {
            Error::Rpc(e) => Error::Rpc(e.clone()),
            Error::Unreachable(path, e, hint) => Error::Unreachable(path.clone(), same(e), hint),
            Error::Broken(e, sent) => Error::Broken(same(e), *sent),
            Error::TimedOut(after) => Error::TimedOut(*after),
            Error::UnknownOutcome(e) => Error::UnknownOutcome(Box::new(e.again())),
            Error::Protocol(why) => Error::Protocol(why.clone()),
            Error::Malformed(why) => Error::Malformed(why.clone()),
            Error::Replay(why) => Error::Replay(why.clone()),
            Error::Unusable(why) => Error::Unusable(why.clone()),
            Error::TurnedAway(e) => Error::TurnedAway(e.clone()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rpc(e) | Error::TurnedAway(e) => f.write_str(&e.message),
            Error::Unreachable(path, e, hint) => {
                write!(f, "no daemon at {}: {e}; hint: {hint}", path.display())
            }
            Error::Broken(e, _) => write!(f, "the connection ended: {e}"),
            Error::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Error::UnknownOutcome(e) => {
                write!(f, "{e}: it is not known whether the daemon did it")
            }
            Error::Protocol(why) => write!(f, "the daemon's reply: {why}"),
            Error::Malformed(why) => write!(f, "evidence: {why}"),
            Error::Replay(why) | Error::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Unreachable(_, e, _) | Error::Broken(e, _) => Some(e),
            Error::UnknownOutcome(e) => Some(e),
            _ => None,
        }
    }
}
