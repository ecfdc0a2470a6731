//! What may a frame be? A byte of kind, four bytes of length (big-endian), the body.

use super::{refused, Error, NONCE};
use std::io::{self, Read};

/// What a frame holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Data = 1,
    Challenge = 2,
    Tree = 3,
    Report = 4,
    Lacking = 5,
    Logs = 6,
}

const HEADER: usize = 5;
/// A frame of data fits into a record of TLS.
pub(super) const MAX_DATA: usize = 16384 - HEADER;

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Data, Challenge, Tree, Report, Lacking, Logs]
            .into_iter()
            .find(|k| *k as u8 == byte)
    }

    fn may_have(self, size: usize) -> bool {
        match self {
            Kind::Data => (1..=MAX_DATA).contains(&size),
            Kind::Challenge => size == NONCE,
            Kind::Tree => (1..=2048).contains(&size),
            Kind::Report => (54..=256 << 10).contains(&size),
            Kind::Lacking => size == super::parts::STAND_SIZE,
            Kind::Logs => (4..=24 << 20).contains(&size),
        }
    }

    pub fn frame(self, body: &[u8]) -> Vec<u8> {
        [&[self as u8][..], &(body.len() as u32).to_be_bytes(), body].concat()
    }
}

/// The next frame; none if the other end has ended the session in order.
pub(super) fn read(from: &mut impl Read) -> Result<Option<(Kind, Vec<u8>)>, Error> {
    let mut header = [0; HEADER];
    loop {
        match from.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    from.read_exact(&mut header[1..])?;
    let [kind, size @ ..] = header;
    let size = u32::from_be_bytes(size) as usize;
    let known = Kind::of(kind).filter(|k| k.may_have(size));
    let Some(known) = known else {
        let why = format!("the other end sent a frame of the kind {kind} with {size} bytes");
        return Err(refused(why));
    };
    // It grows as the bytes come: a header alone costs no memory.
    let mut body = Vec::new();
    if from.take(size as u64).read_to_end(&mut body)? < size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some((known, body)))
}
