//! Who is at the other end of this TLS session?
//!
//! After an ordinary handshake of TLS 1.3 the client sends a nonce, and the server answers
//! with evidence of its container, whose user data binds an exporter value of this very
//! session (cima-access(7), TLS). All sessions that wait share one quote ([`crate::tree`]).
//!
//! A session is rustls' `StreamOwned` (feature `rustls`), or whatever has the methods of
//! [`Session`]. [`accept`] and [`connect`] open it. They block: threads take and open
//! sessions. Nothing here appraises: [`Appraiser`] has `cimactl verify` do that.

mod frames;
#[cfg(feature = "rustls")]
pub mod over_rustls;
mod parts;

use crate::error::Error as AskError;
use crate::tree::{self, Prover};
use frames::{Kind, MAX_DATA};
use parts::{Known, Parts, Stand};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What both ends agree on by ALPN.
pub const PROTOCOL: &[u8] = b"cima-tls/1";

const LABEL: &[u8] = b"EXPORTER-cima-tls-v1";
const NONCE: usize = 32;

/// The time between two nonces of a session, less some for the network.
const BETWEEN: Duration = Duration::from_secs(55);

/// A session of TLS 1.3 with the protocol [`PROTOCOL`] (ALPN), without tickets. `read` must
/// give no bytes only where the other end has sent a close_notify, and an error where the
/// connection ended without one.
pub trait Session: Read + Write {
    /// Completes the handshake. An error unless it was a whole one of TLS 1.3, and no
    /// resumption of another session.
    fn handshake(&mut self) -> io::Result<()>;

    /// The protocol that was agreed on by ALPN.
    fn protocol(&self) -> Option<&[u8]>;

    /// The exporter of RFC 8446, section 7.5, 32 bytes.
    fn export(&self, label: &[u8], context: &[u8]) -> io::Result<[u8; 32]>;
}

/// Why an end isn't attested, or an error of the session. Close the session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The other end isn't attested, or doesn't speak the protocol.
    Refused(String),
    /// The daemon gave no evidence of this end.
    Ask(AskError),
    /// The session.
    Io(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Refused(why) => f.write_str(why),
            Error::Ask(e) => write!(f, "evidence of this end: {e}"),
            Error::Io(e) => write!(f, "attested TLS: {e}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Error::Io(e)
    }
}

impl From<String> for Error {
    fn from(why: String) -> Self {
        Error::Refused(why)
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Io(e) => e,
            other => io::Error::other(other),
        }
    }
}

fn refused(why: impl Into<String>) -> Error {
    Error::Refused(why.into())
}

/// Gets evidence, nonce and user data, and says why unless the evidence is trusted.
type Judge<'a> = dyn Fn(&[u8], &[u8], &[u8]) -> Result<(), String> + Send + Sync + 'a;

/// Decides on evidence of other ends. It keeps the logs of those that it trusted, so that
/// these send them once: use one for many sessions, of many threads.
pub struct Appraiser<'a> {
    judge: Box<Judge<'a>>,
    known: Known,
}

impl<'a> Appraiser<'a> {
    /// `judge` gets evidence, nonce and user data, and says why unless the evidence is
    /// trusted and has exactly these two: `cimactl verify FILE --nonce HEX --user-data FILE
    /// --policy FILE` does.
    pub fn new(
        judge: impl Fn(&[u8], &[u8], &[u8]) -> Result<(), String> + Send + Sync + 'a,
    ) -> Self {
        Appraiser {
            judge: Box::new(judge),
            known: Known::default(),
        }
    }

    fn appraise(&self, report: &[u8], logs: &Parts, must: &tree::Bound) -> Result<(), Error> {
        let evidence = parts::together(report, logs)?;
        (self.judge)(&evidence, &must.nonce, &must.user_data).map_err(Error::Refused)
    }
}

/// The server's end: proves this container to the client. With an appraiser the client must
/// prove itself, too. Bound its time by a timeout of the socket: 5 s for the nonce.
pub fn accept<S: Session>(
    session: S,
    prover: Arc<Prover>,
    appraiser: Option<&Appraiser>,
) -> Result<Stream<S>, Error> {
    let mut stream = Stream::over(session, "server", Some(prover))?;
    let mine = match appraiser {
        Some(_) => Some(stream.ask()?),
        None => None,
    };
    let (Kind::Challenge, nonce) = stream.next()? else {
        return Err(refused("the client must begin with a nonce"));
    };
    stream.prove(&nonce)?;
    if let (Some(appraiser), Some(mine)) = (appraiser, mine) {
        stream.answer(&mine, appraiser)?;
    }
    Ok(stream)
}

/// The client's end: nothing is sent before the server's evidence was appraised. A prover
/// proves this container, too, to a server that asks.
pub fn connect<S: Session>(
    session: S,
    appraiser: &Appraiser,
    prover: Option<Arc<Prover>>,
) -> Result<Stream<S>, Error> {
    let mut stream = Stream::over(session, "client", prover)?;
    let mine = stream.ask()?;
    if let Some(theirs) = stream.answer(&mine, appraiser)? {
        stream.prove(&theirs)?;
    }
    Ok(stream)
}

/// The program's bytes over a session that [`accept`] or [`connect`] opened. Reading gives
/// no bytes once the other end has ended the session in order; it answers nonces of the
/// other end meanwhile.
pub struct Stream<S> {
    session: S,
    role: &'static str,
    prover: Option<Arc<Prover>>,
    ahead: Vec<u8>,
    taken: usize,
    asked: Option<Instant>, // when the other end's last nonce came
    told: Option<Parts>,    // logs of a report, until the other end says what it lacks
}

impl<S: Session> Stream<S> {
    fn over(
        mut session: S,
        role: &'static str,
        prover: Option<Arc<Prover>>,
    ) -> Result<Self, Error> {
        session.handshake()?;
        if session.protocol() != Some(PROTOCOL) {
            return Err(refused("the other end must speak cima-tls/1 (ALPN)"));
        }
        Ok(Stream {
            session,
            role,
            prover,
            ahead: Vec::new(),
            taken: 0,
            asked: None,
            told: None,
        })
    }

    /// The session, to end it: its close_notify says that nothing more comes.
    pub fn session(&mut self) -> &mut S {
        &mut self.session
    }

    fn binding(&self, role: &str, nonce: &[u8]) -> Result<tree::Binding, Error> {
        let context = [role.as_bytes(), b"\0", nonce].concat();
        let value = self.session.export(LABEL, &context)?;
        Ok(tree::of_session(&value, role))
    }

    fn ask(&mut self) -> Result<[u8; NONCE], Error> {
        let mut nonce = [0; NONCE];
        File::open("/dev/urandom")?.read_exact(&mut nonce)?;
        self.send(&[(Kind::Challenge, &nonce)])?;
        Ok(nonce)
    }

    fn send(&mut self, frames: &[(Kind, &[u8])]) -> Result<(), Error> {
        let all: Vec<_> = frames.iter().map(|(k, body)| k.frame(body)).collect();
        self.session.write_all(&all.concat())?;
        Ok(self.session.flush()?)
    }

    /// Answers a nonce: the report first.
    fn challenged(&mut self, nonce: &[u8]) -> Result<(), Error> {
        let Some(prover) = self.prover.clone() else {
            let why = "the other end asks for evidence of this one, which has none to give";
            return Err(refused(why));
        };
        if self.told.is_some() || self.asked.is_some_and(|at| at.elapsed() < BETWEEN) {
            return Err(refused(
                "the other end sent a nonce too soon after its last",
            ));
        }
        self.asked = Some(Instant::now());
        let binding = self.binding(self.role, nonce)?;
        let proof = prover.prove(&binding, nonce).map_err(Error::Ask)?;
        let (report, logs) = parts::take_apart(&proof.evidence)?;
        let report = [logs.stand().bytes(), report].concat();
        let place = tree::write_place(proof.tree());
        self.told = Some(logs);
        self.send(&[(Kind::Tree, place.as_bytes()), (Kind::Report, &report)])
    }

    /// Sends what the other end lacks of the logs.
    fn lacks(&mut self, has: &[u8]) -> Result<(), Error> {
        let Some(told) = self.told.take() else {
            return Err(refused("the other end asks for the logs of no report"));
        };
        match told.rest(Stand::read(has)?.0) {
            Some(rest) => self.send(&[(Kind::Logs, &rest)]),
            None => Ok(()),
        }
    }

    /// Proves this end, while the session opens.
    fn prove(&mut self, nonce: &[u8]) -> Result<(), Error> {
        self.challenged(nonce)?;
        let has = self.expect(Kind::Lacking)?;
        self.lacks(&has)
    }

    /// Takes the other end's proof, and gives the nonce that may come before it.
    fn answer(&mut self, nonce: &[u8], by: &Appraiser) -> Result<Option<Vec<u8>>, Error> {
        let (mut kind, mut body) = self.next()?;
        let mut theirs = None;
        if kind == Kind::Challenge && self.role == "client" {
            theirs = Some(body);
            (kind, body) = self.next()?;
        }
        if kind != Kind::Tree {
            let why = "the other end must send evidence before anything else";
            return Err(refused(why));
        }
        let place = String::from_utf8(body).map_err(|e| e.to_string())?;
        let place = tree::read_place(&place).map_err(|e| e.to_string())?;
        let body = self.expect(Kind::Report)?;
        let (want, report) = Stand::read(&body)?;
        let other = if self.role == "client" {
            "server"
        } else {
            "client"
        };
        let binding = self.binding(other, nonce)?;
        let must = tree::bound(&place, &binding, nonce).map_err(|e| e.to_string())?;
        let logs = match by.known.find(report, want) {
            Ok(logs) => {
                self.send(&[(Kind::Lacking, &want.bytes())])?;
                by.appraise(report, &logs, &must)?;
                return Ok(theirs);
            }
            Err(beginning) => {
                self.send(&[(Kind::Lacking, &beginning.stand().bytes())])?;
                beginning.with_rest(&self.expect(Kind::Logs)?, want)?
            }
        };
        by.appraise(report, &logs, &must)?;
        by.known.keep(report, logs);
        Ok(theirs)
    }

    fn expect(&mut self, want: Kind) -> Result<Vec<u8>, Error> {
        let (kind, body) = self.next()?;
        match kind == want {
            true => Ok(body),
            false => Err(refused(format!(
                "the other end must send a frame of the kind {} now, not of {}",
                want as u8, kind as u8
            ))),
        }
    }

    fn next(&mut self) -> Result<(Kind, Vec<u8>), Error> {
        let why = "the other end closed the session without evidence; its own log says why";
        frames::read(&mut self.session)?.ok_or_else(|| refused(why))
    }
}

impl<S: Session> Read for Stream<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.ahead.len() && !to.is_empty() {
            let Some((kind, body)) = frames::read(&mut self.session)? else {
                return Ok(0);
            };
            match kind {
                Kind::Data => (self.ahead, self.taken) = (body, 0),
                Kind::Challenge => self.challenged(&body)?,
                Kind::Lacking => self.lacks(&body)?,
                _ => Err(refused("the other end sent evidence that nobody asked for"))?,
            }
        }
        let n = to.len().min(self.ahead.len() - self.taken);
        to[..n].copy_from_slice(&self.ahead[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

impl<S: Session> Write for Stream<S> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let n = from.len().min(MAX_DATA);
        if n > 0 {
            self.send(&[(Kind::Data, &from[..n])])?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush()
    }
}
