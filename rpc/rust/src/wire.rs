//! What do a request and its reply look like? JSON-RPC 2.0, one object per
//! line (cima-api(7)). Nothing here reads or writes.

use crate::encoding::base64;
use crate::error::{Error, RpcError};
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

/// The number of the request that a line answers. [`Error::Rpc`] is an error that is about
/// none: the daemon closes the connection then.
pub(crate) fn number(line: &[u8]) -> Result<u64, Error> {
    if let Some(rest) = line.strip_prefix(OURS) {
        let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).map(str::parse);
        if let (Some(b','), Ok(Ok(number))) = (rest.get(digits), number) {
            return Ok(number);
        }
    }
    let r: Response = serde_json::from_slice(line).map_err(|e| Error::Protocol(e.to_string()))?;
    match (r.id.as_u64(), r.error) {
        (Some(number), _) => Ok(number),
        (None, Some(e)) => Err(Error::Rpc(e)),
        (None, None) => Err(Error::Protocol("it must be to a request".into())),
    }
}

const OURS: &[u8] = br#"{"jsonrpc":"2.0","id":"#;

/// Whether a line says that the daemon stops.
pub(crate) fn stops(line: &[u8]) -> bool {
    const STOPS: &[u8] = br#","error":{"code":-32007"#;
    let rest = line.strip_prefix(OURS).unwrap_or_default();
    let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    rest[digits..].starts_with(STOPS)
}

/// The result in a line, as it came.
pub(crate) fn result(line: &[u8]) -> Result<&str, Error> {
    let r: Response = serde_json::from_slice(line).map_err(|e| Error::Protocol(e.to_string()))?;
    match (r.jsonrpc, r.result, r.error) {
        ("2.0", None, Some(e)) => Err(Error::Rpc(e)),
        ("2.0", Some(result), None) => Ok(result.get()),
        _ => Err(Error::Protocol("it must be a JSON-RPC response".into())),
    }
}

/// Reads a result.
pub(crate) fn read<'a, T: Deserialize<'a>>(result: &'a str) -> Result<T, Error> {
    serde_json::from_str(result).map_err(|e| Error::Protocol(e.to_string()))
}
