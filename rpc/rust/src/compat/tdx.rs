//! Quotes of TDX.

/// What a quote holds.
pub mod quote {
    use crate::compat::api::ParseCcReport;
    use crate::compat::api_data::CcReport;
    use crate::{quote, Error};
    use log::info;

    /// A quote. Beyond CIMA 0.5's it reads version 5, and the certificates.
    #[allow(missing_docs)]
    pub struct TdxQuote {
        pub header: TdxQuoteHeader,
        pub body: TdxQuoteBody,
        pub signature: quote::Signature,
    }

    /// What made the quote.
    #[allow(missing_docs)]
    pub struct TdxQuoteHeader {
        pub version: u16,
        pub ak_type: AttestationKeyType,
        pub tee_type: IntelTeeType,
        pub reserved_1: [u8; 2],
        pub reserved_2: [u8; 2],
        pub qe_vendor: [u8; 16],
        pub user_data: [u8; 20],
    }

    /// A kind of attestation key.
    #[derive(Clone, Debug, Eq, PartialEq)]
    #[allow(non_camel_case_types, missing_docs)]
    pub enum AttestationKeyType {
        ECDSA_P256 = 2,
        ECDSA_P384 = 3,
    }

    /// A kind of TEE, in a quote's header.
    #[derive(Clone, Debug, Eq, PartialEq)]
    #[allow(non_camel_case_types, missing_docs)]
    pub enum IntelTeeType {
        TEE_SGX = 0,
        TEE_TDX = 0x81,
    }

    impl TdxQuoteHeader {
        /// Logs it.
        pub fn show(&self) {
            info!("version = {}", self.version);
            info!("attestation key type = {:?}", self.ak_type);
            info!("TEE type = {:?}", self.tee_type);
            info!("QE vendor = {:02X?}", self.qe_vendor);
            info!("user data = {:02X?}", self.user_data);
        }
    }

    /// The TD's report.
    #[allow(missing_docs)]
    pub struct TdxQuoteBody {
        pub tee_tcb_svn: [u8; 16],
        pub mrseam: [u8; 48],
        pub mrseam_signer: [u8; 48],
        pub seam_attributes: [u8; 8],
        pub td_attributes: [u8; 8],
        pub xfam: [u8; 8],
        pub mrtd: [u8; 48],
        pub mrconfigid: [u8; 48],
        pub mrowner: [u8; 48],
        pub mrownerconfig: [u8; 48],
        pub rtmr0: [u8; 48],
        pub rtmr1: [u8; 48],
        pub rtmr2: [u8; 48],
        pub rtmr3: [u8; 48],
        pub report_data: [u8; 64],
    }

    impl TdxQuoteBody {
        /// Logs it.
        pub fn show(&self) {
            info!("mrtd = {:02X?}", self.mrtd);
            for (i, r) in [self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3]
                .iter()
                .enumerate()
            {
                info!("rtmr{i} = {r:02X?}");
            }
            info!("report_data = {:02X?}", self.report_data);
        }
    }

    impl TdxQuote {
        /// Reads the bytes of a quote.
        pub fn parse_tdx_quote(bytes: Vec<u8>) -> Result<TdxQuote, Error> {
            let q = quote::parse(&bytes)?;
            let (h, b) = (q.header, q.body);
            let [r0, r1, r2, r3] = h.reserved;
            Ok(TdxQuote {
                header: TdxQuoteHeader {
                    version: h.version,
                    ak_type: AttestationKeyType::ECDSA_P256,
                    tee_type: IntelTeeType::TEE_TDX,
                    reserved_1: [r0, r1],
                    reserved_2: [r2, r3],
                    qe_vendor: h.qe_vendor,
                    user_data: h.user_data,
                },
                body: TdxQuoteBody {
                    tee_tcb_svn: b.tee_tcb_svn,
                    mrseam: b.mr_seam.0,
                    mrseam_signer: b.mr_signer_seam.0,
                    seam_attributes: b.seam_attributes,
                    td_attributes: b.td_attributes,
                    xfam: b.xfam,
                    mrtd: b.mrtd.0,
                    mrconfigid: b.mr_config_id.0,
                    mrowner: b.mr_owner.0,
                    mrownerconfig: b.mr_owner_config.0,
                    rtmr0: b.rtmr[0].0,
                    rtmr1: b.rtmr[1].0,
                    rtmr2: b.rtmr[2].0,
                    rtmr3: b.rtmr[3].0,
                    report_data: b.report_data,
                },
                signature: q.signature,
            })
        }
    }

    impl ParseCcReport<TdxQuote> for CcReport {
        fn parse_cc_report(report: Vec<u8>) -> Result<TdxQuote, Error> {
            TdxQuote::parse_tdx_quote(report)
        }
    }
}
