//! How does evidence travel without the logs that the other end has?
//!
//! The report is the evidence without its logs. Pieces are JSON values as the evidence has
//! them: the boot log, each entry of the runtime log, and the logs of the operating system,
//! of which none is a piece of no bytes. A chain over them says which somebody has
//! (cima-access(7), The wire).

use crate::client::lock;
use crate::sha512::sha384;
use crate::tree::MAX_EVIDENCE;
use serde::Deserialize;
use serde_json::{value::RawValue, Value};
use std::sync::Mutex;

pub(super) const STAND_SIZE: usize = 52;
const MAX_PIECES: usize = 1 << 21;
const MAX_KNOWN: usize = 16;

/// How many pieces there are, and the chain over them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stand {
    count: usize,
    chain: [u8; 48],
}

impl Stand {
    pub fn bytes(&self) -> Vec<u8> {
        [&(self.count as u32).to_be_bytes()[..], &self.chain].concat()
    }

    /// Reads what `body` begins with, and gives the rest.
    pub fn read(body: &[u8]) -> Result<(Stand, &[u8]), String> {
        let wrong = || "the other end's frame is too short".to_string();
        let (count, rest) = body.split_first_chunk().ok_or_else(wrong)?;
        let (chain, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
        let count = u32::from_be_bytes(*count) as usize;
        if count > MAX_PIECES {
            return Err(format!(
                "the other end's logs must have at most {MAX_PIECES} pieces, not {count}"
            ));
        }
        let chain = *chain;
        Ok((Stand { count, chain }, rest))
    }
}

/// Pieces of logs, and the chain over the first 0, 1, 2, … of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Parts {
    pieces: Vec<Vec<u8>>,
    chain: Vec<[u8; 48]>,
}

impl Parts {
    pub fn new(pieces: impl IntoIterator<Item = Vec<u8>>) -> Parts {
        let mut parts = Parts {
            pieces: Vec::new(),
            chain: vec![[0; 48]],
        };
        for piece in pieces {
            parts.add(piece);
        }
        parts
    }

    fn add(&mut self, piece: Vec<u8>) {
        let last = self.chain[self.pieces.len()];
        self.chain
            .push(sha384(&[&last[..], &sha384(&piece)].concat()));
        self.pieces.push(piece);
    }

    pub fn stand(&self) -> Stand {
        let count = self.pieces.len();
        let chain = self.chain[count];
        Stand { count, chain }
    }

    /// What somebody lacks who has this, as a frame's body: all, where somebody has something
    /// else. None if nothing lacks.
    pub fn rest(&self, has: Stand) -> Option<Vec<u8>> {
        let same = self.chain.get(has.count) == Some(&has.chain);
        let at = if same { has.count } else { 0 };
        if at == self.pieces.len() {
            return None;
        }
        let mut body = (at as u32).to_be_bytes().to_vec();
        for piece in &self.pieces[at..] {
            body.extend_from_slice(&(piece.len() as u32).to_be_bytes());
            body.extend_from_slice(piece);
        }
        Some(body)
    }

    /// These and the pieces of a frame, which must come to what the report said.
    pub fn with_rest(&self, body: &[u8], want: Stand) -> Result<Parts, String> {
        let number = |b: &[u8; 4]| u32::from_be_bytes(*b) as usize;
        let (at, mut body) = body
            .split_first_chunk()
            .ok_or("the other end's logs end too soon")?;
        let at = number(at);
        if at != 0 && at != self.pieces.len() {
            return Err("the other end's logs must begin at 0, or behind what this end has".into());
        }
        let mut whole = Parts::new(self.pieces[..at].iter().cloned());
        while !body.is_empty() {
            let within = "the other end's logs end within a piece";
            let (size, rest) = body.split_first_chunk().ok_or(within)?;
            let (piece, rest) = rest.split_at_checked(number(size)).ok_or(within)?;
            if whole.pieces.len() == want.count {
                return Err("the other end's logs have more pieces than its report says".into());
            }
            whole.add(piece.into());
            body = rest;
        }
        match whole.stand() == want {
            true => Ok(whole),
            false => Err("the other end's logs aren't those of its report".into()),
        }
    }

    /// Without what changes as a log grows: the operating system's logs, and a run of digests
    /// at the end.
    fn stable(&self) -> Parts {
        let mut n = self.pieces.len().saturating_sub(1);
        if n > 1 && self.pieces[n - 1].starts_with(br#"{"digests""#) {
            n -= 1;
        }
        Parts::new(self.pieces[..n].iter().cloned())
    }
}

/// Members of an object as they came.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> serde::de::Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Self::Value, M::Error> {
                let mut all = Vec::new();
                while let Some(one) = map.next_entry()? {
                    all.push(one);
                }
                Ok(all)
            }
        }
        from.deserialize_map(All).map(Members)
    }
}

/// The report of the daemon's evidence, and its logs.
pub(super) fn take_apart(evidence: &str) -> Result<(Vec<u8>, Parts), String> {
    let wrong = |why: String| format!("the daemon's evidence: {why}");
    let all: Members = serde_json::from_str(evidence).map_err(|e| wrong(e.to_string()))?;
    let (mut report, mut boot, mut system, mut entries) = (String::new(), None, "", None);
    for (name, value) in all.0 {
        match name.as_str() {
            "boot_log" => boot = Some(value.get()),
            "os_logs" => system = value.get(),
            "runtime_log" => entries = Some(value.get()),
            _ => {
                report.push(if report.is_empty() { '{' } else { ',' });
                report += &format!("{}:{}", Value::from(name), value.get());
            }
        }
    }
    let (Some(boot), Some(entries), false) = (boot, entries, report.is_empty()) else {
        return Err(wrong("it must have claims and logs".into()));
    };
    let entries: Vec<&RawValue> =
        serde_json::from_str(entries).map_err(|e| wrong(e.to_string()))?;
    let texts = entries.into_iter().map(RawValue::get);
    let texts = [boot].into_iter().chain(texts).chain([system]);
    report.push('}');
    Ok((
        report.into(),
        Parts::new(texts.map(|text| text.as_bytes().to_vec())),
    ))
}

/// The evidence again. The report comes from the other end and may be anything: whoever
/// appraises reads the whole.
pub(super) fn together(report: &[u8], logs: &Parts) -> Result<Vec<u8>, String> {
    let wrong = "the other end's report must be a JSON object";
    let body = report.strip_suffix(b"}").ok_or(wrong)?;
    let [boot, entries @ .., system] = &logs.pieces[..] else {
        return Err(wrong.into());
    };
    let mut text = [body, br#","boot_log":"#, boot].concat();
    if !system.is_empty() {
        text.extend_from_slice(br#","os_logs":"#);
        text.extend_from_slice(system);
    }
    text.extend_from_slice(br#","runtime_log":["#);
    text.extend_from_slice(&entries.join(&b','));
    text.extend_from_slice(b"]}");
    match text.len() <= MAX_EVIDENCE {
        true => Ok(text),
        false => Err(format!(
            "the other end's evidence must have at most {MAX_EVIDENCE} bytes"
        )),
    }
}

/// Logs of evidence that was appraised well, of 16 callers, so that they need not travel
/// again. Nothing is believed because it is here: evidence is appraised as a whole each time.
#[derive(Default)]
pub(super) struct Known(Mutex<Vec<(String, Parts)>>); // the last used is the last

impl Known {
    /// The logs that a report is about, if all are here; else what can be their beginning.
    pub fn find(&self, report: &[u8], want: Stand) -> Result<Parts, Parts> {
        let mut all = lock(&self.0);
        if let Some(at) = all.iter().position(|(_, logs)| logs.stand() == want) {
            let one = all.remove(at);
            all.push(one);
            return Ok(all[all.len() - 1].1.clone());
        }
        let name = name(report);
        let of = all.iter().find(|(of, _)| *of == name);
        Err(of.map_or(Parts::new([]), |(_, logs)| logs.stable()))
    }

    /// Remembers logs of evidence that was appraised well.
    pub fn keep(&self, report: &[u8], logs: Parts) {
        let name = name(report);
        let mut all = lock(&self.0);
        all.retain(|(of, _)| *of != name);
        all.push((name, logs));
        if all.len() > MAX_KNOWN {
            all.remove(0);
        }
    }
}

/// Whose logs a report is about, by its own claims.
fn name(report: &[u8]) -> String {
    let report: Value = serde_json::from_slice(report).unwrap_or_default();
    let claims = &report["claims"];
    let parts = [
        &claims["agent"],
        &claims["container"]["id"],
        &claims["host"]["unit"],
    ];
    parts.map(Value::to_string).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn come_together() {
        for (text, count) in [
            (
                r#"{"claims":{"a":[1,"}"]},"quote":"AA==","boot_log":"AA==","os_logs":[{"entries":"AA=="}],"runtime_log":[{"event":"AA=="},{"digests":"BB=="}]}"#,
                4,
            ),
            (r#"{"quote":"AA==","boot_log":"","runtime_log":[]}"#, 2),
        ] {
            let (report, logs) = take_apart(text).unwrap();
            assert_eq!(together(&report, &logs).unwrap(), text.as_bytes());
            assert_eq!(logs.pieces.len(), count);
        }
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"boot_log":"","runtime_log":[]}"#,
            r#"{"quote":"","runtime_log":[]}"#,
            r#"{"quote":"","boot_log":""}"#,
            r#"{"quote":"","boot_log":"","runtime_log":{}}"#,
        ] {
            assert!(take_apart(wrong).is_err(), "{wrong}");
        }
        let two = Parts::new([vec![], vec![]]);
        assert!(together(b"{", &two).is_err());
        assert!(together(b"{}", &Parts::new([vec![]])).is_err());
        assert!(together(b"{}", &Parts::new([vec![b' '; 16 << 20], vec![]])).is_err());
    }

    #[test]
    fn vectors() {
        let text = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../vectors/trees.json"
        ));
        let all: Value = serde_json::from_str(&text.unwrap()).unwrap();
        let all = all["parts"].as_array().unwrap();
        assert_eq!(all.len(), 2);
        for v in all {
            let (report, logs) = take_apart(v["evidence"].as_str().unwrap()).unwrap();
            assert_eq!(String::from_utf8(report).unwrap(), v["report"]);
            assert_eq!(logs.pieces.len(), v["pieces"]);
            assert_eq!(crate::encoding::hex(&logs.stand().chain), v["chain"]);
        }
    }

    #[test]
    fn logs_must_be_the_reports() {
        let piece = |text: &str| text.as_bytes().to_vec();
        let own = Parts::new(["\"b\"", "\"one\"", "\"two\"", ""].map(piece));
        let has = Parts::new(own.pieces[..2].iter().cloned());
        let nothing = Parts::new([]);
        let rest = own.rest(has.stand()).unwrap();
        let whole = own.rest(nothing.stand()).unwrap();
        assert_eq!(own.rest(own.stand()), None);
        for count in [2, MAX_PIECES] {
            let other = Stand {
                count,
                chain: [0; 48],
            };
            assert_eq!(own.rest(other).unwrap(), whole);
        }
        for body in [&whole, &rest] {
            assert_eq!(has.with_rest(body, own.stand()).unwrap(), own);
        }
        let swapped = String::from_utf8_lossy(&whole).replace("one", "two");
        for wrong in [
            &rest[..3],
            &rest[..rest.len() - 5],
            &[&[0, 0, 0, 1], &rest[4..]].concat(),
            &[&[255, 0, 0, 0], &rest[4..]].concat(),
            &whole[..11],
            &[0, 0, 0, 2],
            &[&rest[..], &[0; 4]].concat(),
            &[&rest[..], &[255; 4]].concat(),
            &[&rest[..], &[0]].concat(),
            swapped.as_bytes(),
        ] {
            assert!(has.with_rest(wrong, own.stand()).is_err(), "{wrong:?}");
        }
        let most = [&((MAX_PIECES + 1) as u32).to_be_bytes()[..], &[0; 48]].concat();
        assert!(Stand::read(&most).is_err());
        assert!(Stand::read(&[0; 51]).is_err());
    }

    #[test]
    fn known() {
        let of = |i: usize| {
            take_apart(&format!(
                r#"{{"claims":{{"container":{{"id":"{i}"}}}},"boot_log":"{i}","runtime_log":[{{"event":"e"}},{{"digests":"d"}}]}}"#
            ))
            .unwrap()
        };
        let (known, (report, first)) = (Known::default(), of(0));
        for i in 0..40 {
            let (report_of, logs) = of(i);
            known.keep(&report_of, logs);
            assert_eq!(known.find(&report, first.stand()), Ok(first.clone()));
        }
        assert_eq!(lock(&known.0).len(), MAX_KNOWN);
        let other = Stand {
            count: 9,
            chain: [0; 48],
        };
        let beginning = known.find(&report, other).unwrap_err();
        assert_eq!(beginning.pieces, &first.pieces[..2]);
        assert_eq!(known.find(b"anything", other), Err(Parts::new([])));
    }
}
