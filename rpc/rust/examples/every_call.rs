//! Makes every call by both clients, meets the errors that a caller can meet,
//! and outlives the daemon: it prints "restart", waits for a line, and goes on
//! when the daemon is there again, which then grants it nothing and allows few
//! quotes. It ends with "ok", or panics.

use cima_client::evidence::{quote_registers, report_data};
use cima_client::{
    AsyncClient, Client, Code, Digest, Error, EventRecord, Options, Quote, RpcError,
};
use serde_json::{json, Map, Value};
use std::time::Duration;

const NONCE: &[u8] = b"a relying party's would come from afar";
const FORMS: [&str; 6] = [
    "trustee",
    "trustee-request",
    "cmw",
    "cmw-cbor",
    "cel",
    "cel-tlv",
];

/// All records, with either client.
macro_rules! events {
    ($cima:expr) => {
        $cima
            .events(0, Some(7))
            .collect::<Result<Vec<EventRecord>, Error>>()
            .unwrap()
    };
    ($cima:expr, $wait:tt) => {
        $cima.events(0, Some(7)).all().$wait.unwrap()
    };
}

macro_rules! calls {
    ($cima:expr $(, $wait:tt)?) => {{
        let cima = $cima;
        assert!(cima.who_am_i()$(.$wait)?.unwrap().host.is_none());
        assert_eq!(cima.get_default_algorithm()$(.$wait)?.unwrap().algo_id, 12);
        assert_eq!(cima.get_measurement_count()$(.$wait)?.unwrap(), 4);
        let m = cima.get_measurements()$(.$wait)?.unwrap();
        for (i, register) in [m.rtmr0, m.rtmr1, m.rtmr2, m.container.unwrap()].into_iter().enumerate() {
            assert_eq!(cima.get_cc_measurement(i as u8, None)$(.$wait)?.unwrap().hash, register);
        }
        let made = cima.extend_measurement("example", "every-call", "rust")$(.$wait)?.unwrap();
        let whole = events!(cima $(, $wait)?);
        assert_eq!(whole[whole.len() - 1].digests[0].hash, made.digest.0);
        assert_eq!(cima.get_cc_event_log(None, None)$(.$wait)?.unwrap().total, whole.len());
        let compared = cima.compare_event_log()$(.$wait)?.unwrap();
        assert_eq!(compared.len(), 4);
        for c in compared {
            assert!(c.equal() && (c.index == 2 || c.register != Digest::ZERO), "{c:?}");
        }
        for quote in [Quote::Own, Quote::Shared] {
            let report = cima.get_cc_report(NONCE, Some(b"data"), quote)$(.$wait)?.unwrap();
            assert_eq!(
                quote_registers(&report.cc_report).unwrap().report_data,
                report_data(&report.claims, report.shared.as_ref()).unwrap()
            );
            let evidence = cima.get_evidence(NONCE, Some(b"data"), quote)$(.$wait)?.unwrap();
            assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
            assert_eq!(evidence.shared().is_some(), quote == Quote::Shared);
        }
        for form in FORMS {
            let formed = cima.get_evidence_as(form, NONCE, None, Quote::Own)$(.$wait)?.unwrap();
            assert!(formed.format == form && formed.content.len() > 1000);
        }
        assert!(cima.discover()$(.$wait)?.unwrap().contains("\"GetEvidence\""));
    }};
}

macro_rules! errors {
    ($cima:expr $(, $wait:tt)?) => {{
        let cima = $cima;
        let e = refused(cima.get_evidence(b"short", None, Quote::Own)$(.$wait)?);
        assert_eq!(e.data["member"], "nonce");
        let e = refused(cima.call("GetStatus", Map::new())$(.$wait)?);
        assert_eq!(e.code, Code::METHOD_NOT_FOUND);
        let long = Map::from_iter([("pid".to_string(), json!("1".repeat(70_000)))]);
        let e = refused(cima.call("WhoAmI", long)$(.$wait)?);
        assert_eq!((e.code, &e.data["limit"]), (Code::TOO_LARGE, &Value::from(65536)));
        let e = refused(cima.extend_measurement("d", "o", &"c".repeat(5000))$(.$wait)?);
        assert_eq!((e.code, &e.data["limit"]), (Code::TOO_LARGE, &Value::from(4096)));
    }};
}

macro_rules! after {
    ($cima:expr $(, $wait:tt)?) => {{
        let cima = $cima;
        let compared = cima.compare_event_log()$(.$wait)?.unwrap();
        assert!(compared.len() == 4 && compared.iter().all(|c| c.equal()));
        let e = refused(cima.extend_measurement("d", "o", "c")$(.$wait)?);
        assert_eq!(e.code, Code::DENIED);
        let mut limited = None;
        for _ in 0..100 {
            limited = cima.get_cc_report(NONCE, None, Quote::Own)$(.$wait)?.err();
            if limited.is_some() {
                break;
            }
        }
        let e = refused(Err::<(), _>(limited.expect("never limited")));
        assert_eq!(e.code, Code::RATE_LIMITED);
        assert!(e.retry_after() > Duration::ZERO);
        cima.who_am_i()$(.$wait)?.unwrap().container.unwrap().id
    }};
}

fn refused<T>(answer: Result<T, Error>) -> RpcError {
    match answer {
        Err(Error::Rpc(e)) => e,
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("not refused"),
    }
}

fn main() {
    let options = Options {
        patience: Duration::from_secs(60),
        ..Options::default()
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let blocking = Client::with(options.clone());
    let waiting = AsyncClient::with(options.clone());
    calls!(&blocking);
    errors!(&blocking);
    runtime.block_on(async {
        calls!(&waiting, await);
        errors!(&waiting, await);
    });
    let who = blocking.who_am_i().unwrap().container.unwrap().id;
    println!("restart");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    assert_eq!(blocking.get_measurement_count().unwrap(), 4);
    runtime.block_on(async { assert_eq!(waiting.get_measurement_count().await.unwrap(), 4) });
    // A rate limit is told, not waited out.
    let hasty = Options {
        patience: Duration::ZERO,
        ..options
    };
    assert_eq!(after!(&Client::with(hasty.clone())), who);
    let waiting = AsyncClient::with(hasty);
    runtime.block_on(async { assert_eq!(after!(&waiting, await), who) });
    println!("ok");
}
