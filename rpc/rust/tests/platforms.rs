//! The client against a cimad-sim on each platform.

mod common;

use cima_client::evidence::{report_data, Evidence};
use cima_client::{Client, Code, Error, Quote};
use common::Simulator;
use serde_json::{json, Value};

const NONCE: &[u8] = b"a nonce of the test's";

fn on(platform: &str) {
    let sim = Simulator::on(platform);
    let cima = Client::new(Some(sim.socket()));
    assert!(cima.who_am_i().unwrap().host.is_some());
    let document: Value = serde_json::from_str(&cima.discover().unwrap()).unwrap();
    assert_eq!(document["openrpc"], "1.3.2");
    let mut own = None;
    for quote in [Quote::Own, Quote::Shared] {
        let evidence = cima.get_evidence(NONCE, Some(b"\0data"), quote).unwrap();
        assert_eq!(evidence.tee(), platform);
        assert_eq!(evidence.differences().unwrap(), Vec::<String>::new());
        own = own.or(Some(evidence));
    }
    let own = own.unwrap();
    let report = cima
        .get_cc_report(NONCE, Some(b"\0data"), Quote::Own)
        .unwrap();
    if platform == "snp" {
        let bound = report_data(&report.claims, report.shared.as_ref()).unwrap();
        assert_eq!(report.cc_report[0x50..0x90], bound);
    }

    // What was changed is no evidence, or differs.
    let meant: Value = serde_json::from_str(own.raw()).unwrap();
    let of = |change: &dyn Fn(&mut Value)| {
        let mut changed = meant.clone();
        change(&mut changed);
        Evidence::parse(&changed.to_string()).and_then(|e| e.differences())
    };
    assert_eq!(of(&|_| ()).unwrap(), Vec::<String>::new());
    let all = ["tdx", "snp", "azure-tdx", "azure-snp", "sgx", ""];
    for other in all.into_iter().filter(|t| *t != platform) {
        let read = of(&|v| v["tee"] = other.into());
        assert!(
            matches!(read, Err(Error::Malformed(_))),
            "{other}: {read:?}"
        );
    }
    let names: Vec<String> = match meant.get("platform") {
        Some(beside) => beside.as_object().unwrap().keys().cloned().collect(),
        None => vec![],
    };
    assert_eq!(names.is_empty(), platform == "tdx");
    for name in names {
        for wrong in [Value::Null, json!(1), json!("!")] {
            assert!(of(&|v| v["platform"][&name] = wrong.clone()).is_err());
        }
        let without = of(&|v| drop(v["platform"].as_object_mut().unwrap().remove(&name)));
        assert!(without.is_err(), "without {name}: {without:?}");
    }
    assert!(of(&|v| v["platform"]["more"] = json!("")).is_err());
    assert!(of(&|v| v["platform"] = Value::Null).is_err());
    let bare = of(&|v| drop(v.as_object_mut().unwrap().remove("platform")));
    match platform {
        // The host of an SNP guest need not give certificates.
        "tdx" | "snp" => assert_eq!(bare.unwrap(), Vec::<String>::new()),
        _ => assert!(matches!(bare, Err(Error::Malformed(_)))),
    }
    let claims = of(&|v| v["claims"]["nonce"] = "AAAAAAAAAAA=".into());
    assert_eq!(claims.unwrap().len(), 1);
    if platform.starts_with("azure-") {
        assert!(of(&|v| v["platform"]["tpm_quote"] = json!("/1RDR4AYAAA=")).is_err());
    }
    let wrong = cima.get_evidence(b"short", None, Quote::Own).unwrap_err();
    assert!(matches!(&wrong, Error::Rpc(e) if e.code == Code::INVALID_PARAMS));
}

#[test]
fn tdx() {
    on("tdx");
}

#[test]
fn snp() {
    on("snp");
}

#[test]
fn azure_tdx() {
    on("azure-tdx");
}

#[test]
fn azure_snp() {
    on("azure-snp");
}
