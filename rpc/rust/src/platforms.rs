//! What does the hardware sign on each platform?
//!
//! It reads what evidence names of that (cima-platforms(7)), and checks no signature.

use crate::encoding::{base64_bytes, present};
use crate::error::Error;
use crate::sha512::sha384;
use serde::Deserialize;

/// A TD: its quote has report data as REPORTDATA.
pub(crate) const TDX: &str = "tdx";
const SNP: &str = "snp";
const AZURE_TDX: &str = "azure-tdx";
const AZURE_SNP: &str = "azure-snp";

const SNP_REPORT: usize = 1184;

/// TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE.
const QUOTE_OF_TPM: &[u8] = b"\xffTCG\x80\x18";

#[derive(Clone, Debug, Deserialize)]
struct Bytes(#[serde(with = "base64_bytes")] Vec<u8>);

/// What stands beside the hardware's quote: the certificates of an SNP report, if the host gave
/// them; on Azure the paravisor's JSON, and what its TPM signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Platform {
    #[serde(default, deserialize_with = "present")]
    certificates: Option<Vec<Bytes>>,
    #[serde(default, deserialize_with = "present")]
    runtime_data: Option<Bytes>,
    #[serde(default, deserialize_with = "present")]
    tpm_quote: Option<Bytes>,
    #[serde(default, deserialize_with = "present")]
    tpm_signature: Option<Bytes>,
    #[serde(default, deserialize_with = "present")]
    pcrs: Option<Bytes>,
}

/// Checks that the members are those of the platform: all of them, and no others. A host need
/// not give an SNP guest's certificates.
pub(crate) fn check(tee: &str, platform: Option<&Platform>) -> Result<(), Error> {
    let (chain, tpm) = match tee {
        TDX => (false, false),
        SNP => (true, false),
        AZURE_TDX => (false, true),
        AZURE_SNP => (true, true),
        _ => {
            let all = [AZURE_SNP, AZURE_TDX, SNP, TDX];
            return Err(Error::Malformed(format!("the tee must be one of {all:?}")));
        }
    };
    let there = platform.map(|p| {
        let of_tpm = [&p.runtime_data, &p.tpm_quote, &p.tpm_signature, &p.pcrs];
        (
            p.certificates.is_some(),
            of_tpm.map(Option::is_some) == [true; 4],
            of_tpm.map(Option::is_some) == [false; 4],
        )
    });
    let wanted = (tee != TDX).then_some((chain, tpm, !tpm));
    if there != wanted && !(tee == SNP && platform.is_none()) {
        let why = format!("platform must have the members of {tee}, and no others");
        return Err(Error::Malformed(why));
    }
    Ok(())
}

/// What the hardware or its TPM signed that should follow from report data: its name, what is
/// signed, what should be. Not for a TD. A TPM takes 50 bytes, and signs their SHA-384.
pub(crate) fn bound(
    tee: &str,
    quote: &[u8],
    platform: Option<&Platform>,
    report_data: &[u8; 64],
) -> Result<(&'static str, Vec<u8>, Vec<u8>), Error> {
    if tee == SNP {
        if quote.len() != SNP_REPORT {
            let why = format!(
                "an SNP report must have {SNP_REPORT} bytes, not {}",
                quote.len()
            );
            return Err(Error::Malformed(why));
        }
        return Ok((
            "REPORT_DATA",
            quote[0x50..0x90].into(),
            report_data.to_vec(),
        ));
    }
    let said = platform
        .and_then(|p| p.tpm_quote.as_ref())
        .and_then(|attest| qualifying_data(&attest.0))
        .ok_or_else(|| Error::Malformed("tpm_quote must be a TPM's quote".into()))?;
    Ok(("qualifying data", said, sha384(report_data).to_vec()))
}

/// extraData of a TPMS_ATTEST: it stands behind the signer's name, each behind its length.
fn qualifying_data(attest: &[u8]) -> Option<Vec<u8>> {
    let sized = |from: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let (size, rest) = from.split_first_chunk()?;
        let size = u16::from_be_bytes(*size).into();
        Some((rest.get(..size)?.into(), rest.get(size..)?.into()))
    };
    let (_signer, rest) = sized(attest.strip_prefix(QUOTE_OF_TPM)?)?;
    Some(sized(&rest)?.0)
}
