//! Who asks the daemon for all that wait?

use super::{of_root, Binding, Proof};
use crate::client::lock;
use crate::encoding::{base64, Digest};
use crate::error::{Code, Error};
use crate::sha512::sha384;
use crate::shared::{Shared, MAX_SIZE};
use crate::Client;
use serde_json::{Map, Value};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a prover waits where the daemon says when to come again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Proves for all calls and sessions of a process, whatever their threads. It asks the daemon
/// for one thing at a time; what comes meanwhile shares the next quote. A process should
/// have one.
pub struct Prover {
    client: Client,
    next: Mutex<Option<Arc<Batch>>>, // takes leaves
    asking: Mutex<()>,
}

/// All that share a quote.
#[derive(Default)]
struct Batch {
    leaves: Mutex<Vec<[u8; 64]>>,
    settled: Mutex<Option<Settled>>,
    done: Condvar,
}

/// The levels of a tree, the leaves first and the root last, and evidence over it.
type Settled = Result<(Arc<Vec<Vec<[u8; 48]>>>, Arc<str>), Error>;

impl Prover {
    /// One that asks by this client.
    pub fn new(client: Client) -> Prover {
        Prover {
            client,
            next: Mutex::default(),
            asking: Mutex::default(),
        }
    }

    /// Evidence that binds this to who sent the nonce of 8 to 64 bytes. It waits for a quote.
    pub fn prove(&self, binding: &Binding, nonce: &[u8]) -> Result<Proof, Error> {
        let (batch, index, first) = self.join(binding.leaf(nonce)?);
        if first {
            self.settle(&batch);
        }
        let mut settled = lock(&batch.settled);
        loop {
            match &*settled {
                None => {
                    settled = batch
                        .done
                        .wait(settled)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                Some(Err(e)) => return Err(e.again()),
                Some(Ok((levels, evidence))) => {
                    return Ok(Proof {
                        evidence: evidence.clone(),
                        tree: place(levels, index),
                    })
                }
            }
        }
    }

    /// The batch that has this leaf at an index, and whether it is the first.
    fn join(&self, leaf: [u8; 64]) -> (Arc<Batch>, usize, bool) {
        let mut next = lock(&self.next);
        let open = next.take();
        let open = open.filter(|b| lock(&b.leaves).len() < MAX_SIZE);
        let first = open.is_none();
        let batch = open.unwrap_or_default();
        let index = {
            let mut leaves = lock(&batch.leaves);
            leaves.push(leaf);
            leaves.len() - 1
        };
        *next = Some(batch.clone());
        (batch, index, first)
    }

    /// Asks for the evidence of a batch, after those before it.
    fn settle(&self, batch: &Arc<Batch>) {
        let _one_at_a_time = lock(&self.asking);
        let mut next = lock(&self.next); // no leaf comes behind here
        if next.as_ref().is_some_and(|b| Arc::ptr_eq(b, batch)) {
            *next = None;
        }
        drop(next);
        let levels = levels(&lock(&batch.leaves));
        let root = Digest(levels[levels.len() - 1][0]);
        let evidence = self.ask(&root, levels[0].len());
        *lock(&batch.settled) = Some(evidence.map(|e| (Arc::new(levels), e.into())));
        batch.done.notify_all();
    }

    fn ask(&self, root: &Digest, size: usize) -> Result<String, Error> {
        let must = of_root(root, size);
        let params: Map<String, Value> = Map::from_iter([
            ("nonce".to_string(), base64(&must.nonce).into()),
            ("user_data".to_string(), base64(&must.user_data).into()),
        ]);
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.client.call("GetEvidence", params.clone());
            let Err(Error::Rpc(e)) = &answer else {
                return answer;
            };
            let wait = e.retry_after().max(Duration::from_millis(1));
            let passing = [Code::RATE_LIMITED, Code::NOT_READY].contains(&e.code);
            if !passing || Instant::now() + wait > end {
                return answer;
            }
            std::thread::sleep(wait);
        }
    }
}

fn levels(leaves: &[[u8; 64]]) -> Vec<Vec<[u8; 48]>> {
    let first = leaves.iter().map(|own| sha384(&[&[0][..], own].concat()));
    let mut all: Vec<Vec<_>> = vec![first.collect()];
    while all[all.len() - 1].len() > 1 {
        let up = all[all.len() - 1].chunks(2).map(|pair| match pair {
            [left, right] => sha384(&[&[1][..], left, right].concat()),
            one => one[0], // the last of an odd number goes up as it is
        });
        all.push(up.collect());
    }
    all
}

/// The place of the leaf at an index.
fn place(levels: &[Vec<[u8; 48]>], index: usize) -> Shared {
    let sibling = |(i, level): (usize, &Vec<_>)| level.get((index >> i) ^ 1).copied().map(Digest);
    Shared {
        size: levels[0].len(),
        index,
        path: levels.iter().enumerate().filter_map(sibling).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha512::sha512;

    #[test]
    fn places() {
        for size in (1..20).chain([33, 4096]) {
            let leaves: Vec<_> = (0..size).map(|i: u32| sha512(&i.to_be_bytes())).collect();
            let levels = levels(&leaves);
            for (index, own) in leaves.iter().enumerate() {
                let root = place(&levels, index).root(own).unwrap();
                assert_eq!(root.0, levels[levels.len() - 1][0]);
            }
        }
    }
}
