//! What does a bundle hold, and do its logs explain it?
//!
//! It reads bundles and replays their runtime log (cima-evidence(7)). It checks no
//! signature: to check whether a bundle is true, use `cimactl verify`.

use crate::canonical;
use crate::encoding::{base64_bytes, hex, present, Digest};
use crate::error::Error;
use crate::platforms::{self, Platform};
use crate::replay::extend;
pub use crate::runtime_log::{Event, LogEntry};
use crate::sha512::{sha384, sha512};
use crate::shared::Shared;
use serde::Deserialize;
use serde_json::{value::RawValue, Value};
use std::collections::BTreeMap;

/// The view of a log that leaves out other containers' events.
const PRIVATE: &str = "private";

const PROFILE: &str = "https://github.com/cima-project/cima/evidence/v2";

/// The registers and report data in a TDX quote. The quote's signature is not checked.
#[derive(Clone, Debug)]
pub struct QuoteRegisters {
    /// MRTD: the measurement of the TD's initial contents.
    pub mrtd: Digest,
    /// RTMR0–3.
    pub rtmr: [Digest; 4],
    /// REPORTDATA, which the quote binds.
    pub report_data: [u8; 64],
}

/// Reads the registers of a quote of version 4 or 5 (cima-evidence(7), Quote).
pub fn quote_registers(quote: &[u8]) -> Result<QuoteRegisters, Error> {
    let wrong = || Error::Malformed("the quote must be a TDX quote of version 4 or 5".into());
    let start = match quote.first_chunk().map(|v| u16::from_le_bytes(*v)) {
        Some(4) => 48,
        Some(5) => 54,
        _ => return Err(wrong()),
    };
    let body = quote.get(start..start + 584).ok_or_else(wrong)?;
    let digest = |at: usize| Digest(std::array::from_fn(|i| body[at + i]));
    Ok(QuoteRegisters {
        mrtd: digest(136),
        rtmr: std::array::from_fn(|i| digest(328 + 48 * i)),
        report_data: std::array::from_fn(|i| body[520 + i]),
    })
}

/// The report data that the quote must have: SHA-512 over the RFC 8785 form of the
/// claims, or the value that follows from that and `shared` ([`Error::Replay`] if
/// `shared` has no valid path).
pub fn report_data(claims: &RawValue, shared: Option<&Shared>) -> Result<[u8; 64], Error> {
    let value =
        canonical::read(claims.get()).map_err(|why| Error::Malformed(format!("claims: {why}")))?;
    let text = canonical::text(&value);
    let own = sha512(text.as_bytes());
    shared.map_or(Ok(own), |shared| shared.report_data(&own))
}

/// A bundle of evidence.
#[derive(Clone, Debug)]
pub struct Evidence {
    raw: String,
    claims: Claims,
    bundle: Bundle,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    profile: String,
    tee: String,
    #[serde(with = "base64_bytes")]
    quote: Vec<u8>,
    #[serde(default, deserialize_with = "present")]
    platform: Option<Platform>,
    claims: Box<RawValue>,
    #[serde(default, deserialize_with = "present")]
    shared: Option<Shared>,
    #[serde(with = "base64_bytes")]
    agent_signature: Vec<u8>,
    #[serde(with = "base64_bytes")]
    boot_log: Vec<u8>,
    #[serde(default, rename = "os_logs")]
    _os_logs: Vec<OsLog>,
    runtime_log: Vec<LogEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OsLog {
    #[serde(rename = "register")]
    _register: String,
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "entries", with = "base64_bytes")]
    _entries: Vec<u8>,
}

#[derive(Clone, Debug, Deserialize)]
struct Claims {
    boot_log: Digest,
    container: Option<ContainerClaims>,
    log: LogClaims,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerClaims {
    id: String,
    launch_digest: Option<Digest>,
    defaults_digest: Option<Digest>,
    register: Digest,
}

#[derive(Clone, Debug, Deserialize)]
struct LogClaims {
    count: usize,
    register: Digest,
    public: Digest,
    anchor: String,
    #[serde(default)]
    view: String,
}

/// The registers that the runtime log replays to: the whole log gives RTMR3, its first
/// `log.count` events give the others. `container` is none in evidence about the host,
/// `launch_digest` and `defaults_digest` there too, and where a daemon of an earlier
/// version logged the launch. Of a private log ([`Evidence::private`]) `rtmr3` and
/// `register` mean nothing, because events are missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Of the whole log.
    pub rtmr3: Digest,
    /// Of its first `log.count` events.
    pub register: Digest,
    /// Of the public events among them.
    pub public: Digest,
    /// Of the container's own events since its latest launch.
    pub container: Option<Digest>,
    /// Of what was asked for in that launch, and of which image.
    pub launch_digest: Option<Digest>,
    /// Of what the engine added by itself.
    pub defaults_digest: Option<Digest>,
}

impl Evidence {
    /// Reads a bundle.
    pub fn parse(text: &str) -> Result<Evidence, Error> {
        let wrong = |e: serde_json::Error| Error::Malformed(e.to_string());
        let bundle: Bundle = serde_json::from_str(text).map_err(wrong)?;
        if bundle.profile != PROFILE {
            return Err(Error::Malformed(
                "the profile must be that of cima-evidence(7)".into(),
            ));
        }
        platforms::check(&bundle.tee, bundle.platform.as_ref())?;
        let claims = serde_json::from_str(bundle.claims.get()).map_err(wrong)?;
        Ok(Evidence {
            raw: text.into(),
            claims,
            bundle,
        })
    }

    /// The bundle as it came: send it to the relying party.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Who signs: "tdx", "snp", "azure-tdx" or "azure-snp" (cima-platforms(7)).
    pub fn tee(&self) -> &str {
        &self.bundle.tee
    }

    /// The quote.
    pub fn quote(&self) -> &[u8] {
        &self.bundle.quote
    }

    /// The claims as they came.
    pub fn claims(&self) -> &RawValue {
        &self.bundle.claims
    }

    /// The position of the claims in a shared quote; none if the quote is not shared.
    pub fn shared(&self) -> Option<&Shared> {
        self.bundle.shared.as_ref()
    }

    /// Ed25519 by the agent's key over "cima-agent-v1" ‖ SHA-512(JCS(claims)).
    pub fn agent_signature(&self) -> &[u8] {
        &self.bundle.agent_signature
    }

    /// The CCEL event log.
    pub fn boot_log(&self) -> &[u8] {
        &self.bundle.boot_log
    }

    /// The runtime log.
    pub fn runtime_log(&self) -> &[LogEntry] {
        &self.bundle.runtime_log
    }

    /// Whether the log leaves out other containers' events, so that it replays neither to
    /// `log.register` nor to RTMR3.
    pub fn private(&self) -> bool {
        self.claims.log.view == PRIVATE
    }

    /// Replays the runtime log.
    pub fn replay(&self) -> Replay {
        let owner = self.claims.container.as_ref().map(|c| c.id.as_str());
        let zero = Digest::ZERO;
        let (mut rtmr3, mut register, mut public, mut own) = (zero, zero, zero, zero);
        let (mut launch, mut image) = (None, None);
        let mut position = 0;
        for entry in &self.bundle.runtime_log {
            let digests = match entry {
                LogEntry::Event(event) => std::slice::from_ref(&event.digest),
                LogEntry::Digests(digests) => digests,
            };
            for &digest in digests {
                rtmr3 = extend(rtmr3, digest);
                position += 1;
                if position <= self.claims.log.count {
                    register = rtmr3;
                }
            }
            let (LogEntry::Event(event), true) = (entry, position <= self.claims.log.count) else {
                continue;
            };
            let Some(measured) = &event.measured else {
                continue;
            };
            let measured = Digest(sha384(measured.get().as_bytes()));
            if event.public() {
                public = extend(public, measured);
            } else if event.container.as_deref() == owner {
                match event.operation.as_str() {
                    "launch" => (own, launch, image) = (zero, event.body(), None),
                    "image" => image = event.body(),
                    _ => {}
                }
                own = extend(own, measured);
            }
        }
        let digests = match (owner, image, launch) {
            (Some(_), Some(image), Some(launch)) => launch_digests(&launch, &image),
            _ => None,
        };
        Replay {
            rtmr3,
            register,
            public,
            container: owner.map(|_| own),
            launch_digest: digests.map(|d| d.0),
            defaults_digest: digests.and_then(|d| d.1),
        }
    }

    fn shows_own_alone(&self) -> bool {
        let owner = self.claims.container.as_ref().map(|c| c.id.as_str());
        let own = |entry: &LogEntry| match entry {
            LogEntry::Event(e) => e.public() || e.container.as_deref() == owner,
            LogEntry::Digests(_) => false,
        };
        let log = self.runtime_log();
        log.len() <= self.claims.log.count && log.iter().all(own)
    }

    /// The contradictions between quote, claims and logs; empty if there are none.
    /// No signature is checked, nor, where a TPM's PCR holds the log, that PCR.
    pub fn differences(&self) -> Result<Vec<String>, Error> {
        let quote = match self.tee() {
            platforms::TDX => Some(quote_registers(self.quote())?),
            _ => None,
        };
        let (r, log) = (self.replay(), &self.claims.log);
        let bound = match report_data(self.claims(), self.shared()) {
            Err(Error::Replay(why)) => return Ok(vec![why]),
            other => other?,
        };
        let said = |name: &str, said: &[u8], got: &[u8]| {
            (said != got).then(|| format!("{name}: {}, recomputed {}", hex(said), hex(got)))
        };
        let (name, signed, follows) = match &quote {
            Some(quote) => ("REPORTDATA", quote.report_data.into(), bound.into()),
            None => {
                let platform = self.bundle.platform.as_ref();
                platforms::bound(self.tee(), self.quote(), platform, &bound)?
            }
        };
        let mut all = vec![
            said(name, &signed, &follows),
            said(
                "boot_log",
                &self.claims.boot_log.0,
                &sha384(self.boot_log()),
            ),
            said("log.public", &log.public.0, &r.public.0),
        ];
        // A private log lacks other containers' events, so it gives neither.
        if self.private() {
            if !self.shows_own_alone() {
                let more = "more is shown than a private log's own and public events";
                return Ok(vec![more.into()]);
            }
        } else {
            all.push(said("log.register", &log.register.0, &r.register.0));
            if let (Some(quote), "rtmr3") = (&quote, log.anchor.as_str()) {
                all.push(said("RTMR3", &quote.rtmr[3].0, &r.rtmr3.0));
            }
        }
        if let Some(c) = &self.claims.container {
            let got = |d: Option<Digest>| d.map(|d| d.0.to_vec()).unwrap_or_default();
            all.push(said("container.register", &c.register.0, &got(r.container)));
            all.push(said(
                "container.launch_digest",
                &got(c.launch_digest),
                &got(r.launch_digest),
            ));
            all.push(said(
                "container.defaults_digest",
                &got(c.defaults_digest),
                &got(r.defaults_digest),
            ));
        }
        Ok(all.into_iter().flatten().collect())
    }
}

/// Launch digest and defaults digest of the bodies of a launch and an image event; none
/// where an earlier version logged the launch, or where nothing is known.
fn launch_digests(launch: &str, image: &str) -> Option<(Digest, Option<Digest>)> {
    let parts: BTreeMap<String, Box<RawValue>> = serde_json::from_str(launch).ok()?;
    let image: BTreeMap<String, Value> = serde_json::from_str(image).ok()?;
    if parts.contains_key("user") && parts.contains_key("capabilities") {
        return None;
    }
    let part = |name: &str| match parts.get(name) {
        Some(shown) => Some(Digest(sha384(shown.get().as_bytes()))),
        None => serde_json::from_str(parts.get(&format!("{name}_sha384"))?.get()).ok(),
    };
    let value = |name: &str| serde_json::from_str::<Value>(parts.get(name)?.get()).ok();
    let mut over = serde_json::Map::new();
    let known = |name: &str| image.get(name).cloned();
    let identity = match value("image_config").or_else(|| known("digest")) {
        Some(config) => ("config", config),
        None => match known("manifest") {
            Some(manifest) => ("manifest", manifest),
            None => ("absent", known("absent").unwrap_or("".into())),
        },
    };
    let (name, identity) = identity;
    over.insert("image".into(), serde_json::json!({ name: identity }));
    over.insert("cgroup_owner".into(), value("cgroup_owner")?);
    over.insert("source".into(), value("source")?);
    if let Some(asked) = part("asked") {
        over.insert("asked".into(), hex(&asked.0).into());
    }
    let text = canonical::text(&Value::Object(over));
    Some((Digest(sha384(text.as_bytes())), part("defaults")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of launches of every form; an earlier version's has none.
    #[test]
    fn launches() {
        let text = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../vectors/launches.json"
        ));
        let all: Vec<Value> = serde_json::from_str(&text.unwrap()).unwrap();
        assert!(all.len() > 13);
        for v in all {
            let body = |name: &str| canonical::text(&v[name]);
            let (launch, defaults) = match launch_digests(&body("launch"), &body("image")) {
                Some((launch, defaults)) => (Some(launch), defaults),
                None => (None, None),
            };
            for (name, got) in [("launch_digest", launch), ("defaults_digest", defaults)] {
                let got = got.map(|d| Value::from(d.to_string()));
                assert_eq!(v.get(name), got.as_ref(), "{}: {name}", v["about"]);
            }
        }
    }
}
