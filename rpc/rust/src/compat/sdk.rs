//! The SDK's calls.

use super::api::EvidenceApi;
use super::api_data::{Algorithm, CcReport, ExtraArgs};
use super::binary_blob::dump_data;
use super::cc_type::TeeType;
use super::tcg::{algorithm_name, EventLogEntry, TcgDigest};
use crate::encoding::from_base64;
use crate::{Client, Error, Options, Quote};
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

/// CIMA 0.5's SDK on CIMA's daemon: $CIMA_SOCKET, else /run/cima/cima.sock. Calls wait for the
/// daemon, and while it says to come later, for a minute.
pub struct API {}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        Client::with(Options {
            patience: Duration::from_secs(60),
            ..Options::default()
        })
    })
}

impl EvidenceApi for API {
    fn get_cc_report(
        nonce: Option<String>,
        data: Option<String>,
        _: ExtraArgs,
    ) -> Result<CcReport, Error> {
        let nonce = nonce.map_or_else(random, |text| decoded("nonce", &text))?;
        let data = data.map(|text| decoded("data", &text)).transpose()?;
        // Programs of CIMA 0.5 ask often, and by many processes: they share quotes.
        let report = client().get_cc_report(&nonce, data.as_deref(), Quote::Shared)?;
        Ok(CcReport {
            cc_report: report.cc_report.clone(),
            cc_type: TeeType::TDX,
            bound: Some(report),
            ..CcReport::default()
        })
    }

    fn dump_cc_report(report: &Vec<u8>) {
        dump_data(report)
    }

    fn get_measurement_count() -> Result<u8, Error> {
        client().get_measurement_count()
    }

    fn get_cc_measurement(index: u8, algo_id: u16) -> Result<TcgDigest, Error> {
        let m = client().get_cc_measurement(index, Some(algo_id))?;
        Ok(TcgDigest {
            algo_id: m.algo_id,
            hash: m.hash.0.to_vec(),
        })
    }

    fn get_cc_eventlog(
        start: Option<u32>,
        count: Option<u32>,
    ) -> Result<Vec<EventLogEntry>, Error> {
        let most = count.map_or(usize::MAX, |n| n as usize);
        let start = start.unwrap_or(0) as usize;
        let events = client().events(start, count.map(|n| (n as usize).clamp(1, 1024)));
        let entries = events
            .take(most)
            .map(|event| event.map(EventLogEntry::from));
        entries.collect()
    }

    fn get_default_algorithm() -> Result<Algorithm, Error> {
        let algo_id = client().get_default_algorithm()?.algo_id;
        Ok(Algorithm {
            algo_id,
            algo_id_str: algorithm_name(algo_id).into(),
        })
    }
}

fn decoded(name: &str, text: &str) -> Result<Vec<u8>, Error> {
    from_base64(text).ok_or_else(|| Error::Malformed(format!("{name} must be in base64")))
}

fn random() -> Result<Vec<u8>, Error> {
    let mut nonce = vec![0; 32];
    let drawn = File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut nonce));
    drawn.map_err(|e| Error::Malformed(format!("no random nonce: {e}")))?;
    log::warn!("no nonce was given: a random one was drawn, which proves no freshness");
    Ok(nonce)
}
