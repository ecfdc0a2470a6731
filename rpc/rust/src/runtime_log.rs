//! What does an entry of the runtime log say?

use crate::encoding::{from_base64, Digest};
use crate::error::Error;
use crate::sha512::sha384;
use serde::{de, Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const TAG: &[u8] = b"LEAA"; // 0x4141454C, little-endian

/// One event of the runtime log, or the digests of a run of other containers' events.
#[derive(Clone, Debug)]
pub enum LogEntry {
    /// An event that the caller may see.
    Event(Event),
    /// Digests of other containers' events.
    Digests(Vec<Digest>),
}

impl<'de> Deserialize<'de> for LogEntry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum One {
            Event(String),
            Digests(String),
        }
        let custom = |why: &str| de::Error::custom(why);
        let bytes =
            |text: String| from_base64(&text).ok_or_else(|| custom("must be in standard base64"));
        match One::deserialize(from)? {
            One::Event(text) => Event::read(bytes(text)?)
                .map(LogEntry::Event)
                .map_err(de::Error::custom),
            One::Digests(text) => {
                let bytes = bytes(text)?;
                if bytes.is_empty() || bytes.len() % 48 != 0 {
                    return Err(custom("each digest must have 48 bytes"));
                }
                let all = bytes
                    .chunks_exact(48)
                    .map(|d| Digest(std::array::from_fn(|i| d[i])));
                Ok(LogEntry::Digests(all.collect()))
            }
        }
    }
}

/// One event of the runtime log.
#[derive(Clone, Debug)]
pub struct Event {
    /// "launch", "exec", … (cima-evidence(7), Operations).
    pub operation: String,
    /// The container of the event; none in public events.
    pub container: Option<String>,
    /// JCS of the measured object, none for an exit.
    pub measured: Option<Box<RawValue>>,
    /// The digest that extended RTMR3.
    pub digest: Digest,
}

impl Event {
    /// Reads an event's bytes: a TCG tagged event in AAEL form.
    pub fn read(raw: Vec<u8>) -> Result<Event, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Content {
            container: Option<String>,
            measured: Option<Box<RawValue>>,
            #[serde(rename = "salt")]
            _salt: Option<String>,
        }
        let wrong = |why: String| Error::Malformed(format!("runtime event: {why}"));
        let text = match raw.split_at_checked(8) {
            Some((head, text)) if head == [TAG, &(text.len() as u32).to_le_bytes()].concat() => {
                text
            }
            _ => return Err(wrong("must be an AAEL event".into())),
        };
        let text = std::str::from_utf8(text).map_err(|e| wrong(e.to_string()))?;
        let (operation, content) = match text.strip_prefix("cima ").and_then(|t| t.split_once(' '))
        {
            Some(words) => words,
            None => return Err(wrong("not cima's".into())),
        };
        let content: Content = serde_json::from_str(content).map_err(|e| wrong(e.to_string()))?;
        Ok(Event {
            operation: operation.into(),
            container: content.container,
            measured: content.measured,
            digest: Digest(sha384(&raw)),
        })
    }

    /// Whether every caller sees events of this operation whole.
    pub fn public(&self) -> bool {
        let all = [
            "start", "policy", "seal", "system", "power", "missed", "ima",
        ];
        all.contains(&self.operation.as_str())
    }

    /// The measured object, without the operation's name around it.
    pub(crate) fn body(&self) -> Option<String> {
        let mut measured: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(self.measured.as_ref()?.get()).ok()?;
        measured
            .remove(&self.operation)
            .map(|body| body.get().into())
    }
}
