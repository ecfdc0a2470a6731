//! The asynchronous client, against a scripted daemon and a running cimad-sim.

mod common;

use cima_client::evidence::{quote_registers, report_data};
use cima_client::{AsyncClient, Error, Options, Quote};
use common::{error, result, Scripted, Simulator, SILENCE};
use std::future::Future;
use std::time::Duration;

fn run<T>(scene: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(scene)
}

fn count(id: u32) -> String {
    result(id, r#"{"count":4}"#)
}

#[test]
fn connections_that_end() {
    run(async {
        let daemon = Scripted::new(&[
            "",
            &error("null", -32003, ""),
            &error("1", -32007, ""),
            &error("null", -32005, ""),
            &count(1),
            &count(2),
            &count(1),
        ]);
        let cima = AsyncClient::new(Some(daemon.path()));
        let e = cima.get_measurement_count().await.unwrap_err();
        assert_eq!(e.rpc().unwrap().code, cima_client::Code::TOO_LARGE);
        assert_eq!(cima.get_measurement_count().await.unwrap(), 4);
        assert_eq!(cima.get_measurement_count().await.unwrap(), 4);
        assert_eq!(daemon.connections(), 5);
        daemon.hang_up();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(cima.get_measurement_count().await.unwrap(), 4);
    });
}

#[test]
fn extend_is_never_sent_twice() {
    run(async {
        let daemon = Scripted::new(&["", SILENCE, &count(1)]);
        let timeout = Duration::from_millis(200);
        let cima = AsyncClient::with(Options {
            path: Some(daemon.path()),
            timeout,
            ..Options::default()
        });
        for sent in 1..=2 {
            let e = cima.extend_measurement("d", "o", "c").await.unwrap_err();
            assert!(matches!(e, Error::UnknownOutcome(_)), "{e}");
            assert_eq!(daemon.requests().len(), sent);
        }
        assert_eq!(cima.get_measurement_count().await.unwrap(), 4); // on a connection of its own
        assert_eq!(daemon.connections(), 3);
    });
}

#[test]
fn call_that_is_dropped_leaves_no_answer_behind() {
    run(async {
        let daemon = Scripted::new(&[SILENCE, &count(1)]);
        let cima = AsyncClient::new(Some(daemon.path()));
        let dropped = tokio::time::timeout(Duration::from_millis(100), cima.who_am_i()).await;
        assert!(dropped.is_err());
        assert_eq!(cima.get_measurement_count().await.unwrap(), 4);
        assert_eq!(daemon.connections(), 2);
    });
}

#[test]
fn events_end_with_an_error() {
    let daemon = Scripted::new(&[&result(1, r#"{"events":[],"total":9,"next":0}"#)]);
    run(async {
        let cima = AsyncClient::new(Some(daemon.path()));
        let mut events = cima.events(0, None);
        let e = events.next().await.unwrap_err();
        assert!(matches!(e, Error::Protocol(_)), "{e}");
        assert!(events.next().await.unwrap().is_none());
    });
}

#[test]
fn calls() {
    let sim = Simulator::new();
    run(async {
        let cima = AsyncClient::new(Some(sim.socket()));
        assert!(cima.who_am_i().await.unwrap().host.is_some());
        assert_eq!(
            cima.get_default_algorithm().await.unwrap().algorithm,
            "sha384"
        );
        let compared = cima.compare_event_log().await.unwrap();
        assert!(compared.len() == 3 && compared.iter().all(|c| c.equal()));
        let whole = cima.events(0, Some(3)).all().await.unwrap();
        let mut one_by_one = cima.events(0, Some(3));
        for want in 0..whole.len() {
            let event = one_by_one.next().await.unwrap().unwrap();
            assert_eq!(event.rec_num, want);
        }
        assert!(one_by_one.next().await.unwrap().is_none());
        assert_eq!(
            cima.get_cc_event_log(None, None).await.unwrap().total,
            whole.len()
        );
        let nonce = b"a nonce of the test's";
        let report = cima.get_cc_report(nonce, None, Quote::Own).await.unwrap();
        assert_eq!(
            quote_registers(&report.cc_report).unwrap().report_data,
            report_data(&report.claims, report.shared.as_ref()).unwrap()
        );
        let formed = cima.get_evidence_as("cmw", nonce, None, Quote::Own).await;
        assert_eq!(formed.unwrap().format, "cmw");
        assert!(cima.discover().await.unwrap().contains("GetEvidence"));
        let shared = cima.get_evidence(nonce, None, Quote::Shared).await.unwrap();
        assert_eq!(shared.differences().unwrap(), Vec::<String>::new());
        assert!(shared.shared().is_some());
        // Others' events may come between the two calls.
        let mut same = false;
        for _ in 0..10 {
            let evidence = cima.get_evidence(nonce, None, Quote::Own).await.unwrap();
            assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
            same = evidence.replay().rtmr3 == cima.get_measurements().await.unwrap().rtmr3;
            if same {
                break;
            }
        }
        assert!(same, "the log never replays to RTMR3");
        assert!(cima
            .extend_measurement("t", "o", "c")
            .await
            .unwrap_err()
            .rpc()
            .is_some());
    });
}
