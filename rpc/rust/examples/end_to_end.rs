//! What every container can check of itself; it ends with 0 where all holds.
//!
//! The event log replays to every register, registers 0, 1 and 3 hold something
//! (3 in a container), there is a report, and the evidence agrees with itself.

use cima_client::evidence::{quote_registers, report_data};
use cima_client::{Client, Code, Digest, Error, Quote};
use std::process::ExitCode;

fn main() -> ExitCode {
    match checked() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("end_to_end: {e}");
            ExitCode::FAILURE
        }
    }
}

fn checked() -> Result<(), Box<dyn std::error::Error>> {
    // A relying party would send its own nonce.
    let nonce: Vec<u8> = (0..32).map(|i| i ^ std::process::id() as u8).collect();
    let cima = Client::new(None);
    let who = cima.who_am_i()?;
    if who.container.is_some() {
        extend(&cima)?;
    }
    let compared = cima.compare_event_log()?;
    for c in &compared {
        println!(
            "register {}: {} (replayed {})",
            c.index, c.register, c.replayed
        );
        if !c.equal() || c.index != 2 && c.register == Digest::ZERO {
            return Err(format!(
                "register {} must not be empty, and must be what the log replays to",
                c.index
            )
            .into());
        }
    }
    if who.container.is_some() != (compared.len() == 4) {
        return Err("a container must have four registers, the host three".into());
    }
    let report = cima.get_cc_report(&nonce, None, Quote::Own)?;
    if quote_registers(&report.cc_report)?.report_data
        != report_data(&report.claims, report.shared.as_ref())?
    {
        return Err("the report must be bound to its claims".into());
    }
    let differences = cima
        .get_evidence(&nonce, Some(b"end to end"), Quote::Own)?
        .differences()?;
    if !differences.is_empty() {
        return Err(Error::Malformed(differences.join("; ")).into());
    }
    match who.container {
        Some(c) => println!("container {}", c.id),
        None => println!("in no container"),
    }
    Ok(())
}

/// Makes an event of the container's own, and checks that it is the log's last. The
/// daemon's administrator may have denied it.
fn extend(cima: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let made = match cima.extend_measurement("example", "end-to-end", "rust") {
        Err(Error::Rpc(e)) if e.code == Code::DENIED => return Ok(()),
        other => other?,
    };
    match cima.events(0, None).last().transpose()? {
        Some(e) if e.imr_index == made.index && e.digests[0].hash == made.digest.0 => Ok(()),
        last => Err(format!("extended by {made:?}, and the log ends with {last:?}").into()),
    }
}
