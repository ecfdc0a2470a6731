//! What do a request and its reply look like? JSON-RPC 2.0, one object per
//! line (cima-api(7)). Nothing here reads or writes.

use crate::encoding::base64;
use crate::error::{Code, Error, RpcError};
use crate::shared::Quote;
use serde::Deserialize;
use serde_json::{value::RawValue, Map, Value};
use std::{env, path::PathBuf};

/// Bytes of a reply: the largest bundle of evidence, and an envelope.
pub(crate) const MAX_REPLY: usize = (16 << 20) + 4096;

/// The only method that changes state.
pub(crate) const EXTEND: &str = "ExtendMeasurement";

pub(crate) fn socket(path: Option<PathBuf>) -> PathBuf {
    let named = || env::var_os("CIMA_SOCKET").filter(|v| !v.is_empty());
    path.or_else(|| named().map(PathBuf::from))
        .unwrap_or_else(|| "/run/cima/cima.sock".into())
}

/// The parameters of a call.
#[derive(Clone, Default)]
pub(crate) struct Params(Map<String, Value>);

impl Params {
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Leaves the member out if there is no value.
    pub fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The parameters of the methods that make a quote.
    pub fn nonce(nonce: &[u8], user_data: Option<&[u8]>, quote: Quote) -> Self {
        Params::default()
            .with("nonce", base64(nonce))
            .maybe("user_data", user_data.map(base64))
            .maybe("shared", (quote == Quote::Shared).then_some(true))
    }
}

impl From<Map<String, Value>> for Params {
    fn from(members: Map<String, Value>) -> Self {
        Params(members)
    }
}

/// The bytes of a request, with its newline.
pub(crate) fn request(id: u64, method: &str, params: &Params) -> String {
    let (method, params) = (Value::from(method), Value::from(params.0.clone()));
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":{params}}}\n")
}

#[derive(Deserialize)]
struct Response<'a> {
    jsonrpc: &'a str,
    #[serde(default)]
    id: Value,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

/// The result in a line, as it came, and whether another request can follow on the
/// connection: the daemon closes it after an error that is not about a request.
pub(crate) fn reply(line: &[u8], id: u64) -> (Result<&str, Error>, bool) {
    let r: Response = match serde_json::from_slice(line) {
        Ok(r) => r,
        Err(e) => return (Err(Error::Protocol(e.to_string())), false),
    };
    let ours = r.id.as_u64() == Some(id);
    let result = result(r, ours);
    let goes_on = match &result {
        Ok(_) => true,
        Err(Error::Rpc(e)) => ours && e.code != Code::SHUTTING_DOWN,
        Err(_) => false,
    };
    (result, goes_on)
}

fn result(r: Response<'_>, ours: bool) -> Result<&str, Error> {
    let wrong = |why: &str| Error::Protocol(why.into());
    match (r.jsonrpc, r.result, r.error) {
        ("2.0", None, Some(e)) if !ours && e.code == Code::RATE_LIMITED => {
            Err(Error::TurnedAway(e))
        }
        ("2.0", None, Some(e)) => Err(Error::Rpc(e)),
        ("2.0", Some(_), None) if !ours => Err(wrong("it must be to this request")),
        ("2.0", Some(result), None) => Ok(result.get()),
        _ => Err(wrong("it must be a JSON-RPC response")),
    }
}

/// Reads a result.
pub(crate) fn read<'a, T: Deserialize<'a>>(result: &'a str) -> Result<T, Error> {
    serde_json::from_str(result).map_err(|e| Error::Protocol(e.to_string()))
}
