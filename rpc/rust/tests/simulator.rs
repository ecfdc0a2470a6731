//! The client against a running cimad-sim.

mod common;

use cima_client::evidence::{quote_registers, report_data};
use cima_client::{Client, Code, Digest, EventRecord, Quote};
use common::Simulator;
use serde_json::{json, Map, Value};
use std::{process, thread};

const NONCE: &[u8] = b"a nonce of the test's";

#[test]
fn calls() {
    let sim = Simulator::new();
    let cima = Client::new(Some(sim.socket()));
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

    let report = cima
        .get_cc_report(NONCE, Some(b"\0data"), Quote::Own)
        .unwrap();
    assert_eq!(
        quote_registers(&report.cc_report).unwrap().report_data,
        report_data(&report.claims, report.shared.as_ref()).unwrap()
    );
    // Others' events may come between the two calls.
    let same = (0..10).any(|_| {
        let evidence = cima.get_evidence(NONCE, None, Quote::Own).unwrap();
        assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
        evidence.replay().rtmr3 == cima.get_measurements().unwrap().rtmr3
    });
    assert!(same, "the log never replays to RTMR3");
}

#[test]
fn shared() {
    let sim = Simulator::new();
    let cima = Client::new(Some(sim.socket()));
    let report = cima.get_cc_report(NONCE, None, Quote::Shared).unwrap();
    let said = quote_registers(&report.cc_report).unwrap().report_data;
    assert_ne!(said, report_data(&report.claims, None).unwrap());
    assert_eq!(
        said,
        report_data(&report.claims, report.shared.as_ref()).unwrap()
    );
    let ask = |data: u8| {
        let cima = Client::new(Some(sim.socket()));
        let evidence = cima.get_evidence(NONCE, Some(&[data]), Quote::Shared);
        let evidence = evidence.unwrap();
        assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
        evidence.shared().unwrap().size
    };
    let met = (0..20).any(|_| {
        thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|data| s.spawn(move || ask(data))).collect();
            all.into_iter().any(|one| one.join().unwrap() > 1)
        })
    });
    assert!(met, "no two callers shared a quote");
}

#[test]
fn other_forms_and_discovery() {
    let sim = Simulator::new();
    let cima = Client::new(Some(sim.socket()));
    let formed = cima.get_evidence_as("cmw", NONCE, None, Quote::Shared);
    let formed = formed.unwrap();
    assert!(formed.format == "cmw" && formed.content.starts_with(b"{"));
    let document: Value = serde_json::from_str(&cima.discover().unwrap()).unwrap();
    assert_eq!(document["openrpc"], "1.3.2");
}

#[test]
fn errors() {
    let sim = Simulator::new();
    let cima = Client::new(Some(sim.socket()));
    let short = cima.get_evidence(b"short", None, Quote::Own).unwrap_err();
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
    // No caller on the host has a container register.
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
    let cima = Client::new(Some(sim.socket()));
    cima.get_measurements().unwrap();
    sim.stop();
    thread::scope(|s| {
        s.spawn(|| sim.start());
        assert_eq!(cima.get_measurement_count().unwrap(), 3);
    });
    assert_eq!(
        cima.get_evidence(NONCE, None, Quote::Own)
            .unwrap()
            .differences()
            .unwrap(),
        Vec::<String>::new()
    );
}
