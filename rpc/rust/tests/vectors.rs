//! The recorded exchanges and bundles of rpc/vectors.

mod common;

use cima_client::evidence::report_data;
use cima_client::replay::replay;
use cima_client::{Client, Error, Evidence, Quote};
use common::{root, Scripted};
use serde_json::{json, to_value, Map, Value};
use std::{fs, path::PathBuf};

fn load(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(root().join("rpc/vectors").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn decoded(text: &Value) -> Option<Vec<u8>> {
    // The crate's own reader reads it; what it read is written again and compared.
    #[derive(serde::Deserialize)]
    struct Any(#[serde(deserialize_with = "base64")] Vec<u8>);
    fn base64<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text: String = serde::Deserialize::deserialize(from)?;
        let digit = |c: u8| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                .iter()
                .position(|a| *a == c)
        };
        let bits: Vec<u8> = text
            .bytes()
            .filter_map(digit)
            .flat_map(|v| (0..6).rev().map(move |b| (v >> b & 1) as u8))
            .collect();
        Ok(bits
            .chunks_exact(8)
            .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit))
            .collect())
    }
    (!text.is_null()).then(|| serde_json::from_value::<Any>(text.clone()).unwrap().0)
}

/// Makes the call of an exchange with either client, and returns its result as JSON
/// again.
macro_rules! call {
    ($cima:expr, $method:expr, $p:expr $(, $wait:tt)?) => {{
        let p: &Value = $p;
        let number = |name: &str| p[name].as_u64().map(|n| n as usize);
        let text = |name: &str| p[name].as_str().unwrap_or_default();
        let nonce = decoded(&p["nonce"]).unwrap_or_default();
        let data = decoded(&p["user_data"]);
        let (data, quote) = (data.as_deref(), match p["shared"] == true {
            true => Quote::Shared,
            false => Quote::Own,
        });
        let index = number("index").unwrap_or_default() as u8;
        let algorithm = number("algo_id").map(|n| n as u16);
        let (start, count) = (number("start"), number("count"));
        let (domain, operation) = (text("domain"), text("operation"));
        Ok(match $method {
            "GetDefaultAlgorithm" => to_value($cima.get_default_algorithm()$(.$wait)??),
            "GetMeasurementCount" => to_value(json!({"count": $cima.get_measurement_count()$(.$wait)??})),
            "GetCCMeasurement" => to_value($cima.get_cc_measurement(index, algorithm)$(.$wait)??),
            "GetCCEventLog" => to_value($cima.get_cc_event_log(start, count)$(.$wait)??),
            "GetCCReport" => to_value($cima.get_cc_report(&nonce, data, quote)$(.$wait)??),
            "GetEvidence" => serde_json::from_str($cima.get_evidence(&nonce, data, quote)$(.$wait)??.raw()),
            "GetMeasurements" => to_value($cima.get_measurements()$(.$wait)??),
            "ExtendMeasurement" => {
                to_value($cima.extend_measurement(domain, operation, text("content"))$(.$wait)??)
            }
            "WhoAmI" => to_value($cima.who_am_i()$(.$wait)??),
            other => panic!("a call {other} that nobody knows"),
        }
        .unwrap())
    }};
}

fn blocking(path: PathBuf, method: &str, p: &Value) -> Result<Value, Error> {
    let cima = Client::new(Some(path));
    call!(cima, method, p)
}

#[cfg(feature = "tokio")]
fn on_tokio(path: PathBuf, method: &str, p: &Value) -> Result<Value, Error> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(async {
        let cima = cima_client::AsyncClient::new(Some(path));
        call!(cima, method, p, await)
    })
}

type Ask = fn(PathBuf, &str, &Value) -> Result<Value, Error>;

const CLIENTS: &[Ask] = &[
    blocking,
    #[cfg(feature = "tokio")]
    on_tokio,
];

#[test]
fn exchanges() {
    let mut typed = 0;
    for x in load("exchanges.json") {
        let Some(method) = x["method"].as_str() else {
            continue;
        };
        typed += 1;
        let line = x["reply"].as_str().unwrap();
        let reply: Map<String, Value> = serde_json::from_str(line).unwrap();
        for ask in CLIENTS {
            let daemon = Scripted::new(&[&format!("{line}\n")]);
            match ask(daemon.path(), method, &x["params"]) {
                Ok(got) => assert_eq!(got, reply["result"], "{}", x["name"]),
                Err(Error::Rpc(e)) => {
                    assert_eq!(to_value(e).unwrap(), reply["error"], "{}", x["name"])
                }
                Err(e) => panic!("{}: {e}", x["name"]),
            }
            let sent: Value = serde_json::from_str(&daemon.requests()[0]).unwrap();
            assert_eq!(
                sent,
                serde_json::from_str::<Value>(x["request"].as_str().unwrap()).unwrap()
            );
        }
    }
    assert!(typed > 20, "only {typed} exchanges were looked at");
}

#[test]
fn quotes() {
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut known = 0;
    for v in load("quotes.json") {
        let parsed = cima_client::quote::parse(&decoded(&v["quote"]).unwrap());
        let Some(fields) = v["fields"].as_object() else {
            assert!(matches!(parsed, Err(Error::Malformed(_))), "{}", v["about"]);
            continue;
        };
        known += 1;
        let q = parsed.unwrap();
        let b = q.body;
        for (name, want) in fields {
            let got = match name.as_str() {
                "version" => q.header.version.to_string(),
                "tee_tcb_svn" => hex(&b.tee_tcb_svn),
                "mr_seam" => b.mr_seam.to_string(),
                "td_attributes" => hex(&b.td_attributes),
                "xfam" => hex(&b.xfam),
                "mrtd" => b.mrtd.to_string(),
                "mr_config_id" => b.mr_config_id.to_string(),
                "mr_owner" => b.mr_owner.to_string(),
                "mr_owner_config" => b.mr_owner_config.to_string(),
                "rtmr0" => b.rtmr[0].to_string(),
                "rtmr1" => b.rtmr[1].to_string(),
                "rtmr2" => b.rtmr[2].to_string(),
                "rtmr3" => b.rtmr[3].to_string(),
                "report_data" => hex(&b.report_data),
                "mr_service_td" => b.mr_service_td.map(|d| d.to_string()).unwrap_or_default(),
                "extension" => b
                    .extension
                    .as_ref()
                    .map(|e| e.len().to_string())
                    .unwrap_or_default(),
                other => panic!("a field {other} that nobody knows"),
            };
            assert_eq!(got, *want, "{}: {name}", v["about"]);
        }
        let sums = q
            .signature
            .certificates
            .iter()
            .map(|c| hex(&cima_client::sha512::sha384(c)));
        assert_eq!(json!(sums.collect::<Vec<_>>()), v["certificates"]);
    }
    assert_eq!(known, 3);
}

#[test]
fn event_log_replays_to_the_register_beside_it() {
    let all = load("exchanges.json");
    let reply = |name: &str| {
        all.iter().find(|x| x["name"] == name).unwrap()["reply"]
            .as_str()
            .unwrap()
    };
    for (log, register, index) in [
        ("event log of the host", "RTMR0", 0),
        ("event log of a container", "RTMR2, algorithm named", 2),
        ("event log of a container", "container register", 3),
    ] {
        let daemon = Scripted::new(&[&format!("{}\n", reply(log))]);
        let cima = Client::new(Some(daemon.path()));
        let events: Vec<_> = cima.events(0, None).collect::<Result<_, _>>().unwrap();
        let held: Value = serde_json::from_str(reply(register)).unwrap();
        assert_eq!(
            replay(&events).unwrap()[index].to_string(),
            held["result"]["hash"]
        );
    }
}

#[test]
fn bundles() {
    let all = load("bundles.json");
    assert!(all.len() > 10);
    for b in all {
        let file = b["file"].as_str().unwrap();
        let text = fs::read_to_string(root().join("rpc/vectors").join(file)).unwrap();
        let (parsed, expect) = (Evidence::parse(&text), b["expect"].as_str().unwrap());
        if expect == "malformed" {
            assert!(matches!(parsed, Err(Error::Malformed(_))), "{file}");
            continue;
        }
        let bundle = parsed.unwrap();
        // This client does not check the agent's signature.
        let agrees = bundle.differences().unwrap().is_empty();
        assert_eq!(
            agrees,
            expect == "agrees" || expect == "signature",
            "{file}"
        );
        if expect != "agrees" {
            continue;
        }
        let r = bundle.replay();
        let hash: String = report_data(bundle.claims(), bundle.shared())
            .unwrap()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(b["report_data"], hash, "{file}");
        for (name, got) in [
            ("rtmr3", Some(r.rtmr3)),
            ("register", Some(r.register)),
            ("public", Some(r.public)),
            ("container", r.container),
            ("launch_digest", r.launch_digest),
            ("defaults_digest", r.defaults_digest),
        ] {
            assert_eq!(
                b.get(name).cloned(),
                got.map(|d| json!(d.to_string())),
                "{file}: {name}"
            );
        }
    }
}

/// Odd texts: each has one form, or is refused.
#[test]
fn texts() {
    let all = load("texts.json");
    assert!(all.len() > 80);
    for v in all {
        let (about, text) = (&v["about"], v["text"].as_str().unwrap());
        // What is no JSON at all can't be raw claims.
        let got = serde_json::value::RawValue::from_string(text.trim().into())
            .map_err(|e| Error::Malformed(e.to_string()))
            .and_then(|claims| report_data(&claims, None));
        let same = v["form"].as_str().map(|form| {
            let claims = serde_json::value::RawValue::from_string(form.into()).unwrap();
            assert_eq!(claims.get(), form);
            report_data(&claims, None).unwrap_or_else(|e| panic!("{about}: {e}"))
        });
        assert_eq!(got.ok(), same, "{about}: {text:.60}");
    }
}

#[test]
fn shared_is_a_place_or_absent() {
    let text = fs::read_to_string(root().join("rpc/vectors/bundles/host.json")).unwrap();
    let with = |shared: &str| {
        let member = format!("\"shared\":{shared},\"agent_signature\"");
        Evidence::parse(&text.replacen("\"agent_signature\"", &member, 1))
    };
    for wrong in ["null", "[]", r#"{"size":0,"index":0,"path":[]}"#] {
        assert!(matches!(with(wrong), Err(Error::Malformed(_))), "{wrong}");
    }
    for another in [
        r#"{"size":1,"index":0,"path":[]}"#,
        r#"{"size":2,"index":0,"path":[]}"#,
    ] {
        let differences = with(another).unwrap().differences().unwrap();
        assert_ne!(differences, Vec::<String>::new(), "{another}");
    }
}

/// Every changed bundle is refused with an error, shows a difference, or reads as before;
/// none makes the reader panic.
#[test]
fn mutants() {
    let text = fs::read_to_string(root().join("rpc/vectors/bundles/beside.json")).unwrap();
    let meant: Value = serde_json::from_str(&text).unwrap();
    let (mut seed, mut refused) = (8785u64, 0);
    let mut chance = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for _ in 0..600 {
        let mut mutant = text.clone().into_bytes();
        let at = chance(mutant.len());
        match chance(2) {
            0 => mutant[at] = b"{}[]\":,0aZ/=\\ \n"[chance(15)],
            _ => drop(mutant.drain(at..(at + 1 + chance(60)).min(text.len()))),
        }
        let mutant = String::from_utf8(mutant).unwrap_or_default();
        let read = Evidence::parse(&mutant).and_then(|bundle| bundle.differences());
        if !matches!(&read, Ok(differences) if differences.is_empty()) {
            refused += 1;
            continue;
        }
        // Neither the quote's signature nor the agent's is checked here.
        let mut said: Value = serde_json::from_str(&mutant).unwrap();
        for name in ["quote", "agent_signature", "tee"] {
            said[name] = meant[name].clone();
        }
        assert_eq!(said, meant);
    }
    assert!(refused > 300, "only {refused} of 600");
}
