//! What does a program for CIMA 0.5's Rust SDK need? (Feature `compat`.)
//!
//! The modules have the names and items of the crates `cima` and `evidence_api`, so that
//! only imports change:
//!
//! ```ignore
//! use cima_client::compat::api::*;             // was: use evidence_api::api::*;
//! use cima_client::compat::sdk::API;           // was: use cima::sdk::API;
//! ```
//!
//! What changed is in cima-from-05(7). Errors are [`crate::Error`], which `?` turns into
//! what a program's own functions return. New programs use [`crate::Client`].

pub mod api;
pub mod api_data;
pub mod cc_type;
pub mod sdk;
pub mod tcg;
pub mod tdx;

/// Logs bytes in hex, 16 a line.
pub mod binary_blob {
    /// Logs bytes in hex, 16 a line, with the characters that they are.
    pub fn dump_data(data: &[u8]) {
        for (row, bytes) in data.chunks(16).enumerate() {
            let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02X}")).collect();
            let printable = |&b: &u8| match b {
                b' '..=b'~' => char::from(b),
                _ => '.',
            };
            let text: String = bytes.iter().map(printable).collect();
            log::info!("{:08X} {:<48} {text}", row * 16, hex.join(" "));
        }
    }
}
