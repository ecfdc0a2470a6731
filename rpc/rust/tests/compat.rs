//! A program for CIMA 0.5's Rust SDK, of which only the imports were changed.

mod common;

use cima_client::compat::api::*; // was: use evidence_api::api::*
use cima_client::compat::api_data::*; // was: use evidence_api::api_data::*
use cima_client::compat::cc_type::TeeType; // was: use evidence_api::cc_type::TeeType
use cima_client::compat::sdk::API; // was: use cima::sdk::API
use cima_client::compat::tcg::*; // was: use evidence_api::tcg::*
use cima_client::compat::tdx::quote::TdxQuote; // was: use evidence_api::tdx::quote::TdxQuote
use common::Simulator;

#[test]
fn program_for_cima_05() {
    let sim = Simulator::new();
    std::env::set_var("CIMA_SOCKET", sim.socket());
    let algorithm = API::get_default_algorithm().unwrap();
    assert_eq!(
        (algorithm.algo_id, algorithm.algo_id_str.as_str()),
        (TPM_ALG_SHA384, "TPM_ALG_SHA384")
    );
    let nonce = Some("MTIzNDU2Nzg=".to_string());
    for (nonce, data) in [(nonce.clone(), nonce), (None, None)] {
        let report = API::get_cc_report(nonce, data, ExtraArgs {}).unwrap();
        API::dump_cc_report(&report.cc_report);
        assert!(report.cc_type == TeeType::TDX);
        let bound = report.bound.unwrap();
        let want = cima_client::evidence::report_data(&bound.claims, bound.shared.as_ref());
        let quote: TdxQuote = CcReport::parse_cc_report(report.cc_report).unwrap();
        assert_eq!(quote.header.version, 4);
        assert_eq!(quote.body.report_data, want.unwrap());
        assert_eq!(quote.signature.certificates.len(), 3);
        quote.header.show();
        quote.body.show();
    }
    assert!(API::get_cc_report(Some("no base64!".into()), None, ExtraArgs {}).is_err());

    let whole = API::get_cc_eventlog(Some(0), None).unwrap();
    whole[0].show();
    let (mut parts, mut start) = (Vec::new(), 0);
    loop {
        let part = API::get_cc_eventlog(Some(start), Some(7)).unwrap();
        if part.is_empty() {
            break;
        }
        start += part.len() as u32;
        parts.extend(part);
    }
    assert_eq!(parts.len(), whole.len());
    let replayed = API::replay_cc_eventlog(parts).unwrap();
    assert_eq!(
        replayed.len(),
        API::get_measurement_count().unwrap() as usize
    );
    for result in replayed {
        result.show();
        let held = API::get_cc_measurement(result.imr_index as u8, algorithm.algo_id).unwrap();
        assert_eq!(held.get_hash(), result.digests[0].hash);
        assert_eq!(held.get_algorithm_id_str(), "TPM_ALG_SHA384");
    }
    assert!(API::get_cc_measurement(3, TPM_ALG_SHA384).is_err()); // this process is in no container
    assert_eq!(
        event_type_name(EV_EFI_VARIABLE_AUTHORITY),
        "EV_EFI_VARIABLE_AUTHORITY"
    );
}
