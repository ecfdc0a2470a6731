//! How do many calls of one service share one quote?
//!
//! The hardware makes about one quote a second. A service that proves itself to many puts
//! what each of them wants bound into the leaves of a tree of its own, and asks the daemon
//! once for all (cima-access(7), ONE QUOTE FOR MANY CALLS). Sessions of attested TLS are such
//! leaves ([`crate::atls`]), and so is what a service binds for itself.
//!
//! ```no_run
//! # fn main() -> Result<(), cima_client::Error> {
//! # let (public_key, nonce) = (b"key", b"nonce of who asked");
//! use cima_client::{tree, Client};
//!
//! let key = tree::of("https://example.org/shop/key/v1", public_key)?; // at both ends
//! let prover = tree::Prover::new(Client::new(None)); // one for the process
//! let answer = prover.prove(&key, nonce)?.text(); // the service's
//! let proof = tree::Proof::read(&answer)?; // the relying party's
//! let must = proof.bound(&key, nonce)?; // what its evidence must have
//! # Ok(())
//! # }
//! ```

mod prover;

pub use prover::Prover;

use crate::encoding::{hex, Digest};
use crate::error::Error;
use crate::sha512::sha512;
use crate::shared::Shared;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

const PROFILE: &str = "https://github.com/cima-project/cima/tree/v1";
const SESSION: &str = "https://github.com/cima-project/cima/tls/v1";
const OURS: &str = "https://github.com/cima-project/";

const MAX_PROFILE: usize = 256;
const MAX_DATA: usize = 4096;
const MAX_PLACE: usize = 2048;
pub(crate) const MAX_EVIDENCE: usize = 16 << 20;

/// What one leaf binds. [`of`] makes it, so that no peer's bytes get in as another use's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    text: String,
}

/// Binds 1 to 4096 bytes for a use of the service's own: a key, a digest. `profile` names the
/// use: a URI of up to 256 characters, and none of this project's. A service must not let
/// who asks choose both: it would give whoever relays evidence over a key of the relay's.
pub fn of(profile: &str, data: &[u8]) -> Result<Binding, Error> {
    let plain = |c: u8| (b'!'..=b'~').contains(&c) && c != b'"' && c != b'\\';
    let named = profile.find(':').is_some_and(|at| at > 0);
    if !named || profile.len() > MAX_PROFILE || !profile.bytes().all(plain) {
        return Err(Error::Unusable(format!(
            "a use of a tree must be named by a URI of at most {MAX_PROFILE} characters"
        )));
    }
    if profile.to_ascii_lowercase().starts_with(OURS) {
        return Err(Error::Unusable(format!(
            "a use of a tree must be named by a URI of the service's own, not by {profile}"
        )));
    }
    if !(1..=MAX_DATA).contains(&data.len()) {
        return Err(Error::Unusable(format!(
            "a leaf must bind 1 to {MAX_DATA} bytes, not {}; bind a digest of what is longer",
            data.len()
        )));
    }
    let text = format!(r#"{{"data":"{}","profile":"{profile}"}}"#, hex(data));
    Ok(Binding { text })
}

/// Binds a session of TLS: its exporter value, for the end that proves itself.
pub(crate) fn of_session(exporter: &[u8; 32], role: &str) -> Binding {
    let text = format!(
        r#"{{"exporter":"{}","profile":"{SESSION}","role":"{role}"}}"#,
        hex(exporter)
    );
    Binding { text }
}

impl Binding {
    fn leaf(&self, nonce: &[u8]) -> Result<[u8; 64], Error> {
        if !(8..=64).contains(&nonce.len()) {
            return Err(Error::Unusable(format!(
                "a nonce must have 8 to 64 bytes, not {}",
                nonce.len()
            )));
        }
        let text = self.text.as_bytes();
        let parts = [b"cima-tree-leaf-v1\0", text, b"\0", nonce];
        Ok(sha512(&parts.concat()))
    }
}

/// What evidence must have, exactly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bound {
    /// The nonce of its claims.
    pub nonce: [u8; 32],
    /// Its user data.
    pub user_data: Vec<u8>,
}

fn of_root(root: &Digest, size: usize) -> Bound {
    let user_data = format!(r#"{{"profile":"{PROFILE}","root":"{root}","size":{size}}}"#);
    let sum = sha512(&[b"cima-tree-nonce-v1\0", user_data.as_bytes()].concat());
    Bound {
        nonce: std::array::from_fn(|i| sum[i]),
        user_data: user_data.into(),
    }
}

/// What evidence must have to prove what is bound to who sent this nonce of 8 to 64 bytes:
/// `cimactl verify --nonce HEX --user-data FILE` checks both. [`Error::Replay`] if the place
/// is none of its tree.
pub fn bound(place: &Shared, binding: &Binding, nonce: &[u8]) -> Result<Bound, Error> {
    Ok(of_root(&place.root(&binding.leaf(nonce)?)?, place.size))
}

pub(crate) fn write_place(place: &Shared) -> String {
    serde_json::to_string(place).expect("numbers and digests can be written")
}

/// Reads a place in the tree as it travels beside evidence.
pub(crate) fn read_place(text: &str) -> Result<Shared, Error> {
    if text.len() > MAX_PLACE {
        let why = format!("the place in the tree must have at most {MAX_PLACE} bytes");
        return Err(Error::Malformed(why));
    }
    serde_json::from_str(text)
        .map_err(|why| Error::Malformed(format!("the place in the tree: {why}")))
}

/// Evidence that many share, and the place of one of them in its tree.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(crate) evidence: Arc<str>,
    tree: Shared,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    evidence: &'a RawValue,
    #[serde(borrow)]
    tree: &'a RawValue,
}

impl Proof {
    /// What a service sends to who asked: JSON.
    pub fn text(&self) -> String {
        let place = write_place(&self.tree);
        format!(r#"{{"evidence":{},"tree":{place}}}"#, self.evidence)
    }

    /// Reads a proof as it was sent. It appraises nothing.
    pub fn read(text: &str) -> Result<Proof, Error> {
        if text.len() > MAX_EVIDENCE + MAX_PLACE {
            return Err(Error::Malformed("a proof must have at most 16 MiB".into()));
        }
        let wire: Wire = serde_json::from_str(text)
            .map_err(|why| Error::Malformed(format!("a proof over a tree: {why}")))?;
        Ok(Proof {
            evidence: wire.evidence.get().into(),
            tree: read_place(wire.tree.get())?,
        })
    }

    /// The bundle as the daemon gave it.
    pub fn evidence(&self) -> &str {
        &self.evidence
    }

    /// The place in the tree.
    pub fn tree(&self) -> &Shared {
        &self.tree
    }

    /// As the function: what the evidence must have.
    pub fn bound(&self, binding: &Binding, nonce: &[u8]) -> Result<Bound, Error> {
        bound(&self.tree, binding, nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn leaves_differ() {
        let mut all = HashSet::new();
        for nonce in [b"nonce 12", b"nonce 21"] {
            for value in [[1; 32], [2; 32]] {
                for role in ["server", "client"] {
                    all.insert(of_session(&value, role).leaf(nonce).unwrap());
                }
                for profile in ["https://example.org/v1", "https://example.org/v2"] {
                    all.insert(of(profile, &value).unwrap().leaf(nonce).unwrap());
                }
            }
        }
        assert_eq!(all.len(), 16);
    }

    /// trees.json was computed by cima-access(7)'s words, in no language of a client.
    #[test]
    fn vectors() {
        use serde_json::Value;
        let text = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../vectors/trees.json"
        ));
        let all: Value = serde_json::from_str(&text.unwrap()).unwrap();
        let array = |name: &str| all[name].as_array().unwrap().clone();
        let (bindings, sessions) = (array("bindings"), array("sessions"));
        assert_eq!((bindings.len(), sessions.len()), (4, 2));
        for v in bindings.iter().chain(&sessions) {
            let text = |name: &str| v[name].as_str().unwrap();
            let bytes = |name: &str| crate::encoding::from_hex(text(name)).unwrap();
            let binding = match v.get("role") {
                Some(_) => of_session(&bytes("exporter").try_into().unwrap(), text("role")),
                None => of(text("profile"), &bytes("data")).unwrap(),
            };
            let place: Shared = serde_json::from_value(v["place"].clone()).unwrap();
            let got = bound(&place, &binding, &bytes("nonce")).unwrap();
            assert_eq!(hex(&got.nonce), text("claims_nonce"));
            assert_eq!(got.user_data, text("user_data").as_bytes());
        }
    }

    #[test]
    fn refused() {
        let long = format!("a:{}", "x".repeat(255));
        for profile in [
            "",
            "no scheme",
            ":x",
            "a b:c",
            "a:\"",
            "a:\\",
            "a:é",
            "a:\x7f",
            "a:\n",
            &long,
            "https://github.com/cima-project/cima/tls/v1",
            "HTTPS://GITHUB.com/cima-project/x",
        ] {
            assert!(of(profile, b"x").is_err(), "{profile}");
        }
        for size in [0, 4097] {
            assert!(of("a:b", &vec![0; size]).is_err());
        }
        for (size, good) in [(7, false), (8, true), (64, true), (65, false)] {
            assert_eq!(of("a:b", b"x").unwrap().leaf(&vec![0; size]).is_ok(), good);
        }
    }

    #[test]
    fn proofs() {
        let place = r#"{"size":1,"index":0,"path":[]}"#;
        let text = format!(r#"{{"evidence":{{"a": 1}},"tree":{place}}}"#);
        let proof = Proof::read(&text).unwrap();
        assert_eq!(proof.evidence(), r#"{"a": 1}"#);
        assert_eq!(proof.text(), text);
        for wrong in [
            "",
            "{}",
            r#"{"evidence":{}}"#,
            r#"{"evidence":{},"tree":null}"#,
            r#"{"evidence":{},"tree":{"size":0,"index":0,"path":[]}}"#,
            &format!(r#"{{"evidence":{{}},"tree":{place},"more":1}}"#),
            &format!(r#"{{"evidence":{{}},"evidence":{{}},"tree":{place}}}"#),
            &" ".repeat(17 << 20),
        ] {
            assert!(Proof::read(wrong).is_err(), "{wrong:.80}");
        }
        assert!(read_place(&(place.to_string() + &" ".repeat(2048))).is_err());
    }
}
