//! Where do claims stand in a quote that others share?
//!
//! The hardware makes about one quote a second, so callers may share one. It
//! is made over the root of a Merkle tree (RFC 6962, section 2.1, with
//! SHA-384) with a leaf for each caller's claims; cima-evidence(7), Shared
//! quotes.

use crate::encoding::Digest;
use crate::error::Error;
use crate::sha512::{sha384, sha512};
use serde::{de, Deserialize, Serialize};

/// The profile in the preimage of a shared quote, so that a root never passes for claims.
const PROFILE: &str = "https://github.com/cima-project/cima/shared/v1";

/// How many callers share one quote at most.
pub(crate) const MAX_SIZE: usize = 4096;

/// The depth of a tree of [`MAX_SIZE`] leaves.
const MAX_PATH: usize = 12;

/// Whether a quote is shared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Quote {
    /// A quote for this caller alone.
    #[default]
    Own,
    /// One quote for all callers that wait for a shared one: with many callers at once
    /// each gets it in seconds, not minutes.
    Shared,
}

/// One leaf's place in the tree.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Wire")]
pub struct Shared {
    /// How many leaves there are, 1 to 4096.
    pub size: usize,
    /// This leaf's place, from 0.
    pub index: usize,
    /// The sibling digests on the path from the leaf to the root.
    pub path: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    size: usize,
    index: usize,
    path: Vec<Digest>,
}

impl TryFrom<Wire> for Shared {
    type Error = de::value::Error;

    fn try_from(v: Wire) -> Result<Self, Self::Error> {
        let within = (1..=MAX_SIZE).contains(&v.size) && v.index < MAX_SIZE;
        if !within || v.path.len() > MAX_PATH {
            return Err(de::Error::custom("shared must be within its bounds"));
        }
        Ok(Shared {
            size: v.size,
            index: v.index,
            path: v.path,
        })
    }
}

impl Shared {
    /// The root of the tree with this leaf at this index. `own` is SHA-512(JCS(claims)).
    /// [`Error::Replay`] if the path does not lead to a root.
    pub fn root(&self, own: &[u8; 64]) -> Result<Digest, Error> {
        let wrong = |why: &str| Error::Replay(why.into());
        if self.index >= self.size {
            return Err(wrong("shared.index is no leaf of the tree"));
        }
        let mut at = sha384(&[&[0][..], own].concat());
        let mut rest = self.path.iter();
        let (mut i, mut width) = (self.index, self.size);
        while width > 1 {
            if i ^ 1 != width {
                // Otherwise it is the last of an odd number, and moves up as it is.
                let sibling = rest
                    .next()
                    .ok_or_else(|| wrong("shared.path ends before the root"))?;
                at = match i % 2 {
                    0 => sha384(&[&[1][..], &at, &sibling.0].concat()),
                    _ => sha384(&[&[1][..], &sibling.0, &at].concat()),
                };
            }
            (i, width) = (i / 2, width.div_ceil(2));
        }
        match rest.next() {
            None => Ok(Digest(at)),
            Some(_) => Err(wrong("shared.path leads beyond the root")),
        }
    }

    /// The REPORTDATA of the quote that these claims share.
    pub fn report_data(&self, own: &[u8; 64]) -> Result<[u8; 64], Error> {
        let (root, size) = (self.root(own)?, self.size);
        let over = format!(r#"{{"profile":"{PROFILE}","root":"{root}","size":{size}}}"#);
        Ok(sha512(over.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962, sections 2.1 and 2.1.1, word by word.
    fn tree(leaves: &[[u8; 64]]) -> [u8; 48] {
        match leaves {
            [one] => sha384(&[&[0][..], one].concat()),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                sha384(&[&[1][..], &tree(left), &tree(right)].concat())
            }
        }
    }

    fn path(m: usize, leaves: &[[u8; 64]]) -> Vec<Digest> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(k);
        let (mut way, sibling) = match m < k {
            true => (path(m, left), tree(right)),
            false => (path(m - k, right), tree(left)),
        };
        way.push(Digest(sibling));
        way
    }

    #[test]
    fn places_in_all_trees() {
        for size in (1..20).chain([33]) {
            let leaves: Vec<_> = (0..size).map(|i| sha512(&[i as u8])).collect();
            for (index, own) in leaves.iter().enumerate() {
                let path = path(index, &leaves);
                let shared = Shared { size, index, path };
                assert_eq!(shared.root(own).unwrap().0, tree(&leaves));
                assert_ne!(shared.root(&[1; 64]).unwrap().0, tree(&leaves));
                let (mut long, mut short) = (shared.clone(), shared);
                long.path.push(Digest::ZERO);
                assert!(long.root(own).is_err());
                assert!(short.path.pop().is_none() || short.root(own).is_err());
            }
        }
    }

    #[test]
    fn bounds() {
        let digest = format!("\"{}\"", Digest::ZERO);
        for wrong in [
            r#"{"size":0,"index":0,"path":[]}"#,
            r#"{"size":4097,"index":0,"path":[]}"#,
            r#"{"size":1,"index":-1,"path":[]}"#,
            r#"{"size":1,"index":4096,"path":[]}"#,
            r#"{"size":1,"index":0}"#,
            r#"{"size":1,"index":0,"path":[],"more":0}"#,
            r#"{"size":2,"index":0,"path":["ab"]}"#,
            &format!(
                "{{\"size\":2,\"index\":0,\"path\":[{}]}}",
                [digest.as_str(); 13].join(",")
            ),
        ] {
            assert!(serde_json::from_str::<Shared>(wrong).is_err(), "{wrong}");
        }
        let beyond = r#"{"size":3,"index":3,"path":[]}"#;
        let beyond: Shared = serde_json::from_str(beyond).unwrap();
        assert!(beyond.root(&[0; 64]).is_err());
    }
}
