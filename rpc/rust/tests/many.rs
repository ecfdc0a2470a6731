//! Many calls at once from one process, with the default limits: cima-api(7), GetEvidence.

mod common;

use cima_client::{Client, Evidence, Quote};
use common::Simulator;
use std::collections::HashSet;
use std::thread;

const MANY: u64 = 200;

fn all_have_evidence(sim: &Simulator, before: u32, got: &[Evidence]) {
    for evidence in got {
        assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
    }
    let claims: HashSet<_> = got.iter().map(|e| e.claims().get()).collect();
    assert_eq!(claims.len(), MANY as usize);
    // The first caller's, one for those who came meanwhile, and a few where the machine is busy.
    assert!(sim.quotes() - before <= 6, "{} quotes", sim.quotes());
}

#[test]
fn threads() {
    let sim = Simulator::with("500ms", "");
    let (before, cima) = (sim.quotes(), Client::new(Some(sim.socket())));
    let ask = &|n: u64| cima.get_evidence(&n.to_be_bytes(), None, Quote::Shared);
    let got: Vec<_> = thread::scope(|s| {
        let all: Vec<_> = (0..MANY).map(|n| s.spawn(move || ask(n))).collect();
        all.into_iter()
            .map(|t| t.join().unwrap().unwrap())
            .collect()
    });
    all_have_evidence(&sim, before, &got);
}

#[cfg(feature = "tokio")]
#[test]
fn tasks() {
    use cima_client::AsyncClient;
    use std::sync::Arc;

    let sim = Simulator::with("500ms", "");
    let before = sim.quotes();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let got: Vec<_> = runtime.enable_all().build().unwrap().block_on(async {
        let cima = Arc::new(AsyncClient::new(Some(sim.socket())));
        let ask = |n: u64| {
            let cima = cima.clone();
            tokio::spawn(async move {
                cima.get_evidence(&n.to_be_bytes(), None, Quote::Shared)
                    .await
            })
        };
        let all: Vec<_> = (0..MANY).map(ask).collect();
        let mut got = Vec::new();
        for task in all {
            got.push(task.await.unwrap().unwrap());
        }
        got
    });
    all_have_evidence(&sim, before, &got);
}
