//! What the calls take and return.

use super::cc_type::TeeType;
use super::tcg::TcgDigest;

/// Nothing, as in CIMA 0.5.
pub struct ExtraArgs {}

/// A quote.
#[derive(Default)]
pub struct CcReport {
    /// The quote.
    pub cc_report: Vec<u8>,
    /// TDX.
    pub cc_type: TeeType,
    /// None.
    pub cc_aux_blob: Option<Vec<u8>>,
    /// None.
    pub cc_report_generation: Option<u32>,
    /// None.
    pub cc_provider: Option<String>,
    /// What CIMA 0.5 didn't have: what the quote is bound to, for a verifier.
    pub bound: Option<crate::CcReport>,
}

/// An algorithm, and its name.
pub struct Algorithm {
    /// TPM_ALG_SHA384.
    pub algo_id: u16,
    /// "TPM_ALG_SHA384".
    pub algo_id_str: String,
}

/// What the events of one register replay to.
pub struct ReplayResult {
    /// The register's index.
    pub imr_index: u32,
    /// Its value.
    pub digests: Vec<TcgDigest>,
}

impl ReplayResult {
    /// Logs it.
    pub fn show(&self) {
        log::info!("IMR {}", self.imr_index);
        for digest in &self.digests {
            digest.show();
        }
    }
}
