//! What does a TDX quote say?
//!
//! It reads quotes of versions 4 and 5 (Intel TDX DCAP Quoting Library API, appendix A) and
//! checks no signature: to check whether a quote is genuine, use `cimactl verify`.

use crate::encoding::{from_base64, Digest};
use crate::error::Error;

/// [`Header::attestation_key_type`], the only one.
pub const ECDSA_P256: u16 = 2;
/// [`Header::tee_type`].
pub const TDX: u32 = 0x81;
/// [`Body::kind`] of TDX 1.0, and of all quotes of version 4.
pub const BODY_TDX_10: u16 = 2;
/// [`Body::kind`] of TDX 1.5: with `tee_tcb_svn_2` and `mr_service_td`.
pub const BODY_TDX_15: u16 = 3;
/// [`Body::kind`] of TDX 1.5 "Ex": with `extension` too.
pub const BODY_TDX_EX: u16 = 4;

const QE_REPORT: u64 = 6; // types of certification data
const PCK_CHAIN: u64 = 5;

/// A quote. Numbers are read; byte arrays are as the quote holds them.
#[derive(Clone, Debug)]
pub struct Quote {
    /// What made the quote.
    pub header: Header,
    /// The TD's report.
    pub body: Body,
    /// What the quote is signed by.
    pub signature: Signature,
}

/// What made the quote.
#[derive(Clone, Debug)]
pub struct Header {
    /// 4 or 5.
    pub version: u16,
    /// [`ECDSA_P256`].
    pub attestation_key_type: u16,
    /// [`TDX`].
    pub tee_type: u32,
    /// Two times two bytes.
    pub reserved: [u8; 4],
    /// Intel's quoting enclave: 939a7233f79c4ca9940a0db3957f0607.
    pub qe_vendor: [u8; 16],
    /// The platform's id, in its first 16 bytes.
    pub user_data: [u8; 20],
}

/// The TD's report. The last three members are none in bodies that don't have them.
#[derive(Clone, Debug)]
pub struct Body {
    /// [`BODY_TDX_10`], [`BODY_TDX_15`] or [`BODY_TDX_EX`].
    pub kind: u16,
    /// TEE_TCB_SVN: security version numbers.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM: the TDX module.
    pub mr_seam: Digest,
    /// MRSIGNERSEAM: zero is Intel's.
    pub mr_signer_seam: Digest,
    /// SEAMATTRIBUTES.
    pub seam_attributes: [u8; 8],
    /// TDATTRIBUTES; bit 0: a debugger may read the TD.
    pub td_attributes: [u8; 8],
    /// XFAM: the features of the processor that the TD may use.
    pub xfam: [u8; 8],
    /// MRTD: the TD's initial contents.
    pub mrtd: Digest,
    /// MRCONFIGID.
    pub mr_config_id: Digest,
    /// MROWNER.
    pub mr_owner: Digest,
    /// MROWNERCONFIG.
    pub mr_owner_config: Digest,
    /// RTMR0–3.
    pub rtmr: [Digest; 4],
    /// REPORTDATA: what the quote was asked for over.
    pub report_data: [u8; 64],
    /// TEE_TCB_SVN_2.
    pub tee_tcb_svn_2: Option<[u8; 16]>,
    /// MRSERVICETD: over the service TDs that are bound.
    pub mr_service_td: Option<Digest>,
    /// What a body of type [`BODY_TDX_EX`] has behind that.
    pub extension: Option<Vec<u8>>,
}

/// What the quote is signed by, from the attestation key up to the certificates.
#[derive(Clone, Debug)]
pub struct Signature {
    /// ECDSA P-256 over header and body.
    pub signature: [u8; 64],
    /// The attestation key.
    pub attestation_key: [u8; 64],
    /// The quoting enclave's report, which vouches for the attestation key.
    pub qe_report: [u8; 384],
    /// ECDSA P-256 over `qe_report`, by the PCK.
    pub qe_report_signature: [u8; 64],
    /// The quoting enclave's authentication data.
    pub qe_auth_data: Vec<u8>,
    /// DER of the certificates: of the PCK, of the platform CA, and the root.
    pub certificates: Vec<Vec<u8>>,
}

/// Reads a quote, which must be all of `raw`.
pub fn parse(raw: &[u8]) -> Result<Quote, Error> {
    let mut r = Reader(raw);
    let header = Header {
        version: r.number(2)? as u16,
        attestation_key_type: r.number(2)? as u16,
        tee_type: r.number(4)? as u32,
        reserved: r.array()?,
        qe_vendor: r.array()?,
        user_data: r.array()?,
    };
    if !(4..=5).contains(&header.version) {
        return Err(wrong(format!("version {} must be 4 or 5", header.version)));
    }
    if header.tee_type != TDX || header.attestation_key_type != ECDSA_P256 {
        return Err(wrong("it must be TDX's, by an ECDSA P-256 key".into()));
    }
    let body = body(&mut r, header.version)?;
    let signed = r.sized(4)?;
    r.nothing_else()?;
    Ok(Quote {
        header,
        body,
        signature: signature(signed)?,
    })
}

fn body(r: &mut Reader<'_>, version: u16) -> Result<Body, Error> {
    let (kind, size) = match version {
        5 => (r.number(2)? as u16, r.number(4)?),
        _ => (BODY_TDX_10, 584),
    };
    if ![(BODY_TDX_10, 584), (BODY_TDX_15, 648), (BODY_TDX_EX, 885)].contains(&(kind, size)) {
        return Err(wrong(format!(
            "a body of type {kind} and {size} bytes is no TD's report"
        )));
    }
    let mut b = Body {
        kind,
        tee_tcb_svn: r.array()?,
        mr_seam: r.digest()?,
        mr_signer_seam: r.digest()?,
        seam_attributes: r.array()?,
        td_attributes: r.array()?,
        xfam: r.array()?,
        mrtd: r.digest()?,
        mr_config_id: r.digest()?,
        mr_owner: r.digest()?,
        mr_owner_config: r.digest()?,
        rtmr: [r.digest()?, r.digest()?, r.digest()?, r.digest()?],
        report_data: r.array()?,
        tee_tcb_svn_2: None,
        mr_service_td: None,
        extension: None,
    };
    if kind != BODY_TDX_10 {
        b.tee_tcb_svn_2 = Some(r.array()?);
        b.mr_service_td = Some(r.digest()?);
    }
    if kind == BODY_TDX_EX {
        b.extension = Some(r.take(885 - 648)?.to_vec());
    }
    Ok(b)
}

fn signature(mut r: Reader<'_>) -> Result<Signature, Error> {
    let (signature, attestation_key) = (r.array()?, r.array()?);
    r.must_be(QE_REPORT)?;
    let mut report = r.sized(4)?;
    r.nothing_else()?;
    let (qe_report, qe_report_signature) = (report.array()?, report.array()?);
    let qe_auth_data = report.sized(2)?.0.to_vec();
    report.must_be(PCK_CHAIN)?;
    let chain = report.sized(4)?;
    report.nothing_else()?;
    Ok(Signature {
        signature,
        attestation_key,
        qe_report,
        qe_report_signature,
        qe_auth_data,
        certificates: certificates(chain.0)?,
    })
}

/// Reads a chain in PEM; some platforms end it with a zero byte.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let not_pem = || wrong("the certificates must be in PEM".into());
    let text = std::str::from_utf8(pem).map_err(|_| not_pem())?;
    let mut rest = text.trim_end_matches(['\0', '\r', '\n']);
    let mut chain = Vec::new();
    while !rest.is_empty() {
        let body = rest.strip_prefix("-----BEGIN CERTIFICATE-----");
        let parts = body.and_then(|b| b.split_once("-----END CERTIFICATE-----"));
        let (base64, behind) = parts.ok_or_else(not_pem)?;
        let base64: String = base64.split(['\r', '\n']).collect();
        chain.push(from_base64(&base64).ok_or_else(not_pem)?);
        rest = behind.trim_start_matches(['\r', '\n']);
    }
    match chain.is_empty() {
        true => Err(wrong("there are no certificates".into())),
        false => Ok(chain),
    }
}

fn wrong(why: String) -> Error {
    Error::Malformed(format!("no TDX quote: {why}"))
}

/// Takes fields off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], Error> {
        let split = usize::try_from(n)
            .ok()
            .and_then(|n| self.0.split_at_checked(n));
        let (field, rest) = split.ok_or_else(|| {
            let there = self.0.len();
            wrong(format!("{there} bytes are there where {n} must be"))
        })?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let field = self.take(N as u64)?;
        Ok(std::array::from_fn(|i| field[i]))
    }

    fn digest(&mut self) -> Result<Digest, Error> {
        self.array().map(Digest)
    }

    /// A number of so many bytes, little-endian.
    fn number(&mut self, size: u64) -> Result<u64, Error> {
        let field = self.take(size)?;
        Ok(field.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn sized(&mut self, size: u64) -> Result<Reader<'a>, Error> {
        let n = self.number(size)?;
        self.take(n).map(Reader)
    }

    fn must_be(&mut self, want: u64) -> Result<(), Error> {
        match self.number(2)? {
            got if got == want => Ok(()),
            got => Err(wrong(format!(
                "certification data must be of type {want}, not {got}"
            ))),
        }
    }

    fn nothing_else(&self) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(wrong(format!("{n} bytes stand behind it"))),
        }
    }
}
