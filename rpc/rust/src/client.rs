//! How does a program ask the daemon?

use crate::error::Error;
use crate::evidence::Evidence;
use crate::pipeline::{Pipeline, Turn, Wake};
use crate::records::*;
use crate::replay::{self, Comparison};
use crate::retry::{unreachable, Patience};
use crate::wire::{self, Params, EXTEND, MAX_REPLY};
use crate::{Digest, Options, Quote};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// After how long an idle connection isn't used again; the daemon closes idle ones later
/// than that.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// Sends requests to a daemon. Threads may share a client: their requests go over one
/// connection, and none waits for another's answer.
pub struct Client {
    path: PathBuf,
    options: Options,
    link: Mutex<Option<Arc<Link>>>,
}

impl Client {
    /// A client of the daemon behind `path` ($CIMA_SOCKET, else
    /// /run/cima/cima.sock). It connects with the first call.
    pub fn new(path: Option<PathBuf>) -> Client {
        Client::with(Options {
            path,
            ..Options::default()
        })
    }

    /// A client with other waiting times than the default.
    pub fn with(options: Options) -> Client {
        Client {
            path: wire::socket(options.path.clone()),
            options,
            link: Mutex::new(None),
        }
    }

    /// Makes any call, and returns its result as it came.
    pub fn call(
        &self,
        method: &str,
        params: serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Error> {
        self.ask(method, &params.into())
    }

    /// The algorithm of every digest.
    pub fn get_default_algorithm(&self) -> Result<DefaultAlgorithm, Error> {
        wire::read(&self.ask("GetDefaultAlgorithm", &Params::default())?)
    }

    /// How many registers there are, from index 0: 4, on the host 3.
    pub fn get_measurement_count(&self) -> Result<u8, Error> {
        let count: MeasurementCount =
            wire::read(&self.ask("GetMeasurementCount", &Params::default())?)?;
        Ok(count.count)
    }

    /// One register: 0–2 are RTMR0–2, 3 is the caller's container register.
    pub fn get_cc_measurement(
        &self,
        index: u8,
        algo_id: Option<u16>,
    ) -> Result<CcMeasurement, Error> {
        let params = Params::default()
            .with("index", index)
            .maybe("algo_id", algo_id);
        wire::read(&self.ask("GetCCMeasurement", &params)?)
    }

    /// One page of the event log: at most `count` records (up to 1024) from record
    /// `start` on.
    pub fn get_cc_event_log(
        &self,
        start: Option<usize>,
        count: Option<usize>,
    ) -> Result<CcEventLog, Error> {
        let params = Params::default()
            .maybe("start", start)
            .maybe("count", count);
        wire::read(&self.ask("GetCCEventLog", &params)?)
    }

    /// All records from number `start` on, requested in pages.
    pub fn events(&self, start: usize, page: Option<usize>) -> Events<'_> {
        Events {
            client: self,
            next: Some(start),
            page,
            here: Vec::new().into_iter(),
        }
    }

    /// A quote and the claims that it is bound to. `nonce` has 8 to 64 bytes, `user_data`
    /// up to 4096.
    pub fn get_cc_report(
        &self,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<CcReport, Error> {
        wire::read(&self.ask("GetCCReport", &Params::nonce(nonce, user_data, quote))?)
    }

    /// Evidence about the caller. `nonce` is the relying party's, 8 to 64
    /// bytes, `user_data` has up to 4096.
    pub fn get_evidence(
        &self,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<Evidence, Error> {
        Evidence::parse(&self.ask("GetEvidence", &Params::nonce(nonce, user_data, quote))?)
    }

    /// Evidence in another form than CIMA's own: "trustee", "trustee-request",
    /// "cmw", "cmw-cbor", "cel" or "cel-tlv" (cima-evidence(7), FORMS).
    pub fn get_evidence_as(
        &self,
        format: &str,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<FormedEvidence, Error> {
        let params = Params::nonce(nonce, user_data, quote).with("format", format);
        wire::read(&self.ask("GetEvidence", &params)?)
    }

    /// All registers by name.
    pub fn get_measurements(&self) -> Result<Measurements, Error> {
        wire::read(&self.ask("GetMeasurements", &Params::default())?)
    }

    /// Makes an event of the container's own. [`Error::UnknownOutcome`] means that the
    /// event may have been made.
    pub fn extend_measurement(
        &self,
        domain: &str,
        operation: &str,
        content: &str,
    ) -> Result<Extended, Error> {
        let params = Params::default()
            .with("domain", domain)
            .with("operation", operation)
            .with("content", content);
        wire::read(&self.ask(EXTEND, &params)?)
    }

    /// The OpenRPC document that describes the daemon's methods, as it came.
    pub fn discover(&self) -> Result<String, Error> {
        self.ask("rpc.discover", &Params::default())
    }

    /// The caller's identity as the daemon sees it.
    pub fn who_am_i(&self) -> Result<Identity, Error> {
        wire::read(&self.ask("WhoAmI", &Params::default())?)
    }

    /// Replays the event log and compares each register with it.
    pub fn compare_event_log(&self) -> Result<Vec<Comparison>, Error> {
        for _ in 0..replay::ATTEMPTS {
            let before = self.registers()?;
            let events: Vec<_> = self.events(0, None).collect::<Result<_, _>>()?;
            let after = self.registers()?;
            if before == after {
                return Ok(replay::compare(replay::replay(&events)?, &after));
            }
        }
        Err(Error::Replay(
            "the registers changed faster than the event log could be read".into(),
        ))
    }

    fn registers(&self) -> Result<Vec<Digest>, Error> {
        let count = self.get_measurement_count()?;
        (0..count)
            .map(|i| Ok(self.get_cc_measurement(i, None)?.hash))
            .collect()
    }

    fn ask(&self, method: &str, params: &Params) -> Result<String, Error> {
        let mut patience = Patience::new(method, self.options.patience);
        loop {
            match self.once(method, params) {
                Ok(result) => return Ok(result),
                Err(e) => std::thread::sleep(patience.pause(e)?),
            }
        }
    }

    fn once(&self, method: &str, params: &Params) -> Result<String, Error> {
        let line = self
            .connected()?
            .ask(method, params, self.options.timeout)?;
        wire::result(&line).map(String::from)
    }

    fn connected(&self) -> Result<Arc<Link>, Error> {
        let mut link = lock(&self.link);
        if let Some(usable) = link.as_ref().filter(|l| l.usable()) {
            return Ok(usable.clone());
        }
        let made = Arc::new(Link::connect(&self.path).map_err(|e| unreachable(&self.path, e))?);
        *link = Some(made.clone());
        Ok(made)
    }
}

/// A lock whose owner panicked is as good as any: nothing is left half done under it.
pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, on which many calls may wait.
struct Link {
    socket: UnixStream,
    writing: Mutex<()>,
    pipeline: Mutex<Pipeline>,
    ahead: Mutex<Vec<u8>>, // of the call that reads
}

impl Link {
    fn connect(path: &PathBuf) -> io::Result<Link> {
        Ok(Link {
            socket: UnixStream::connect(path)?,
            writing: Mutex::default(),
            pipeline: Mutex::new(Pipeline::new()),
            ahead: Mutex::default(),
        })
    }

    /// Whether the daemon has kept the connection open: between calls nothing can be
    /// readable but the end.
    fn usable(&self) -> bool {
        let Ok(_nobody_writes) = self.writing.try_lock() else {
            return true;
        };
        let known = lock(&self.pipeline).usable();
        known.unwrap_or_else(|| {
            let quiet = || {
                self.socket.set_nonblocking(true).ok()?;
                let read = (&self.socket).read(&mut [0]);
                self.socket.set_nonblocking(false).ok()?;
                Some(matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock))
            };
            quiet().unwrap_or(false)
        })
    }

    fn ask(&self, method: &str, params: &Params, timeout: Duration) -> Result<Vec<u8>, Error> {
        let end = Instant::now() + timeout;
        let number = self.send(method, params, end, timeout)?;
        loop {
            let turn = lock(&self.pipeline).turn(number, Wake::Thread(thread::current()));
            match turn {
                Turn::Done(answer) => return answer,
                Turn::Read => self.read_for(number, end),
                Turn::Wait => thread::park_timeout(end.saturating_duration_since(Instant::now())),
            }
            if Instant::now() >= end && !lock(&self.pipeline).answered(number) {
                return Err(self.give_up(number, timeout));
            }
        }
    }

    fn give_up(&self, number: u64, timeout: Duration) -> Error {
        if lock(&self.pipeline).give_up(number) {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        Error::TimedOut(timeout)
    }

    fn send(
        &self,
        method: &str,
        params: &Params,
        end: Instant,
        timeout: Duration,
    ) -> Result<u64, Error> {
        let _in_turn = lock(&self.writing);
        let number = lock(&self.pipeline).begin()?;
        let request = wire::request(number, method, params);
        let mut unsent = request.as_bytes();
        while !unsent.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let late = left.is_zero() || self.socket.set_write_timeout(Some(left)).is_err();
            let wrote = if late {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                (&self.socket).write(unsent)
            };
            match wrote {
                Ok(n) => unsent = &unsent[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut pipeline = lock(&self.pipeline);
                    if unsent.len() < request.len() {
                        // Half a line: none can follow.
                        pipeline
                            .end(|sent| Error::Broken(io::ErrorKind::UnexpectedEof.into(), sent));
                    }
                    drop(pipeline);
                    return Err(self.give_up(number, timeout));
                }
                Err(_) => break, // the daemon may have sent the reason before it closed the connection
            }
        }
        let mut pipeline = lock(&self.pipeline);
        match unsent.is_empty() {
            true => pipeline.sent(number),
            false => pipeline.last(), // the daemon ignores a request without its newline
        }
        Ok(number)
    }

    /// Reads lines until the call has its answer, or its time is over.
    fn read_for(&self, number: u64, end: Instant) {
        let mut ahead = lock(&self.ahead);
        while !lock(&self.pipeline).answered(number) {
            match self.line(&mut ahead, end) {
                Ok(Some(line)) => lock(&self.pipeline).deliver(line),
                Ok(None) => break,
                Err(Error::Broken(e, _)) => lock(&self.pipeline)
                    .end(|sent| Error::Broken(io::Error::new(e.kind(), e.to_string()), sent)),
                Err(e) => {
                    let why = e.to_string();
                    lock(&self.pipeline).end(|_| Error::Protocol(why.clone()));
                }
            }
        }
        drop(ahead);
        lock(&self.pipeline).hand_over();
    }

    /// The next line; none if the time is over before it is whole.
    fn line(&self, ahead: &mut Vec<u8>, end: Instant) -> Result<Option<Vec<u8>>, Error> {
        let mut looked = 0;
        let mut part = [0; 1 << 16];
        loop {
            if let Some(at) = ahead[looked..].iter().position(|&c| c == b'\n') {
                let rest = ahead.split_off(looked + at + 1);
                let mut line = std::mem::replace(ahead, rest);
                line.pop();
                return Ok(Some(line));
            }
            looked = ahead.len();
            if looked > MAX_REPLY {
                return Err(Error::Protocol(format!(
                    "it must have at most {MAX_REPLY} bytes"
                )));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let broken = |e| Error::Broken(e, true);
            self.socket.set_read_timeout(Some(left)).map_err(broken)?;
            match (&self.socket).read(&mut part) {
                Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => ahead.extend_from_slice(&part[..n]),
                Err(e) => match e.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                    _ => return Err(broken(e)),
                },
            }
        }
    }
}

/// The records of the event log, page by page.
pub struct Events<'a> {
    client: &'a Client,
    next: Option<usize>,
    page: Option<usize>,
    here: std::vec::IntoIter<EventRecord>,
}

impl Iterator for Events<'_> {
    type Item = Result<EventRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.here.next() {
                return Some(Ok(event));
            }
            let start = self.next.take()?;
            let page = self.client.get_cc_event_log(Some(start), self.page);
            match page.and_then(|page| Ok((replay::next_start(start, &page)?, page))) {
                Ok((next, page)) => (self.next, self.here) = (next, page.events.into_iter()),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
