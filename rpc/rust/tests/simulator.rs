//! The client against a running cimad-sim.

mod common;

use cima_client::evidence::{quote_registers, report_data};
use cima_client::{Client, Code, Digest, EventRecord};
use common::Simulator;
use serde_json::{json, Map};
use std::{process, thread};

const NONCE: &[u8] = b"a nonce of the test's";

#[test]
fn calls() {
    let sim = Simulator::new();
    let mut cima = Client::new(Some(sim.socket()));
    let who = cima.who_am_i().unwrap();
    assert_eq!(
        (who.pid as u32, who.uid),
        (process::id(), who.host.unwrap().uid)
    );
    assert_eq!(cima.get_default_algorithm().unwrap().algo_id, 12);
    let m = cima.get_measurements().unwrap();
    assert_eq!(cima.get_cc_measurement(1, Some(12)).unwrap().hash, m.rtmr1);

    let compared = cima.compare_event_log().unwrap();
    assert_eq!(compared.len(), 3);
    assert!(compared.iter().all(|c| c.equal()));
    assert!(compared[0].register != Digest::ZERO && compared[1].register != Digest::ZERO);

    let whole: Vec<EventRecord> = cima.events(0, None).collect::<Result<_, _>>().unwrap();
    let paged: Vec<EventRecord> = cima.events(0, Some(3)).collect::<Result<_, _>>().unwrap();
    assert_eq!(whole, paged);
    assert_eq!(
        cima.get_cc_event_log(None, None).unwrap().total,
        whole.len()
    );

    let report = cima.get_cc_report(NONCE, Some(b"\0data")).unwrap();
    assert_eq!(
        quote_registers(&report.cc_report).unwrap().report_data,
        report_data(&report.claims).unwrap()
    );
    let evidence = cima.get_evidence(NONCE, None).unwrap();
    assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
    assert_eq!(
        evidence.replay().rtmr3,
        cima.get_measurements().unwrap().rtmr3
    );
}

#[test]
fn errors() {
    let sim = Simulator::new();
    let mut cima = Client::new(Some(sim.socket()));
    let short = cima.get_evidence(b"short", None).unwrap_err();
    assert_eq!(short.rpc().unwrap().code, Code::INVALID_PARAMS);
    assert_eq!(short.rpc().unwrap().data["member"], "nonce");
    let unknown = cima.call("GetStatus", Map::new()).unwrap_err();
    assert_eq!(unknown.rpc().unwrap().code, Code::METHOD_NOT_FOUND);
    let mut long = Map::new();
    long.insert("pid".into(), json!("1".repeat(70_000)));
    assert_eq!(
        cima.call("WhoAmI", long).unwrap_err().rpc().unwrap().code,
        Code::TOO_LARGE
    );
    // On the host nobody has a container register.
    assert!(cima
        .extend_measurement("test", "operation", "content")
        .unwrap_err()
        .rpc()
        .is_some());
    assert_eq!(cima.get_measurement_count().unwrap(), 3);
}

#[test]
fn restart() {
    let mut sim = Simulator::new();
    let mut cima = Client::new(Some(sim.socket()));
    cima.get_measurements().unwrap();
    sim.stop();
    thread::scope(|s| {
        s.spawn(|| sim.start());
        assert_eq!(cima.get_measurement_count().unwrap(), 3);
    });
    assert_eq!(
        cima.get_evidence(NONCE, None)
            .unwrap()
            .differences()
            .unwrap(),
        Vec::<String>::new()
    );
}
