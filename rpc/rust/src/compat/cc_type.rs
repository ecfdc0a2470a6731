//! Kinds of confidential computing.

/// A kind of TEE. Here it is always TDX.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum TeeType {
    PLAIN = -1,
    TPM = 0,
    #[default]
    TDX = 1,
    SEV = 2,
    CCA = 3,
}

impl From<TeeType> for String {
    fn from(t: TeeType) -> String {
        format!("{t:?}")
    }
}
