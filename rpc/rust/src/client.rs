//! How does a program ask the daemon?

use crate::error::Error;
use crate::evidence::Evidence;
use crate::records::*;
use crate::replay::{self, Comparison};
use crate::retry::{unreachable, Patience};
use crate::wire::{self, Params, EXTEND, MAX_REPLY};
use crate::{Digest, Options, Quote};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After how long an idle connection isn't used again; the daemon closes idle ones later
/// than that.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// Sends requests to a daemon, one at a time.
pub struct Client {
    path: PathBuf,
    options: Options,
    link: Option<Link>,
    met: bool,
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
            link: None,
            met: false,
        }
    }

    /// Makes any call, and returns its result as it came.
    pub fn call(
        &mut self,
        method: &str,
        params: serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Error> {
        self.ask(method, &params.into())
    }

    /// The algorithm of every digest.
    pub fn get_default_algorithm(&mut self) -> Result<DefaultAlgorithm, Error> {
        wire::read(&self.ask("GetDefaultAlgorithm", &Params::default())?)
    }

    /// How many registers there are, from index 0: 4, on the host 3.
    pub fn get_measurement_count(&mut self) -> Result<u8, Error> {
        let count: MeasurementCount =
            wire::read(&self.ask("GetMeasurementCount", &Params::default())?)?;
        Ok(count.count)
    }

    /// One register: 0–2 are RTMR0–2, 3 is the caller's container register.
    pub fn get_cc_measurement(
        &mut self,
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
        &mut self,
        start: Option<usize>,
        count: Option<usize>,
    ) -> Result<CcEventLog, Error> {
        let params = Params::default()
            .maybe("start", start)
            .maybe("count", count);
        wire::read(&self.ask("GetCCEventLog", &params)?)
    }

    /// All records from number `start` on, requested in pages.
    pub fn events(&mut self, start: usize, page: Option<usize>) -> Events<'_> {
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
        &mut self,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<CcReport, Error> {
        wire::read(&self.ask("GetCCReport", &Params::nonce(nonce, user_data, quote))?)
    }

    /// Evidence about the caller. `nonce` is the relying party's, 8 to 64
    /// bytes, `user_data` has up to 4096.
    pub fn get_evidence(
        &mut self,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<Evidence, Error> {
        Evidence::parse(&self.ask("GetEvidence", &Params::nonce(nonce, user_data, quote))?)
    }

    /// Evidence in another form than CIMA's own: "trustee", "trustee-request",
    /// "cmw", "cmw-cbor", "cel" or "cel-tlv" (cima-evidence(7), FORMS).
    pub fn get_evidence_as(
        &mut self,
        format: &str,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<FormedEvidence, Error> {
        let params = Params::nonce(nonce, user_data, quote).with("format", format);
        wire::read(&self.ask("GetEvidence", &params)?)
    }

    /// All registers by name.
    pub fn get_measurements(&mut self) -> Result<Measurements, Error> {
        wire::read(&self.ask("GetMeasurements", &Params::default())?)
    }

    /// Makes an event of the container's own. [`Error::UnknownOutcome`] means that the
    /// event may have been made.
    pub fn extend_measurement(
        &mut self,
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
    pub fn discover(&mut self) -> Result<String, Error> {
        self.ask("rpc.discover", &Params::default())
    }

    /// The caller's identity as the daemon sees it.
    pub fn who_am_i(&mut self) -> Result<Identity, Error> {
        wire::read(&self.ask("WhoAmI", &Params::default())?)
    }

    /// Replays the event log and compares each register with it.
    pub fn compare_event_log(&mut self) -> Result<Vec<Comparison>, Error> {
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

    fn registers(&mut self) -> Result<Vec<Digest>, Error> {
        let count = self.get_measurement_count()?;
        (0..count)
            .map(|i| Ok(self.get_cc_measurement(i, None)?.hash))
            .collect()
    }

    fn ask(&mut self, method: &str, params: &Params) -> Result<String, Error> {
        let mut patience = Patience::new(method, self.options.patience, self.met);
        loop {
            match self.once(method, params) {
                Ok(result) => return Ok(result),
                Err(e) => std::thread::sleep(patience.pause(e)?),
            }
        }
    }

    fn once(&mut self, method: &str, params: &Params) -> Result<String, Error> {
        // The connection is kept only once the answer was read.
        let mut link = match self.link.take().filter(Link::usable) {
            Some(link) => link,
            None => Link::connect(&self.path).map_err(|e| unreachable(&self.path, e))?,
        };
        self.met = true;
        link.id += 1;
        let line = link.exchange(
            &wire::request(link.id, method, params),
            self.options.timeout,
        )?;
        let (result, goes_on) = wire::reply(&line, link.id);
        let result = result.map(String::from);
        if goes_on {
            link.used = Instant::now();
            self.link = Some(link);
        }
        result
    }
}

/// One connection: a request, then its answer.
struct Link {
    socket: UnixStream,
    id: u64,
    used: Instant,
}

impl Link {
    fn connect(path: &PathBuf) -> io::Result<Link> {
        let socket = UnixStream::connect(path)?;
        Ok(Link {
            socket,
            id: 0,
            used: Instant::now(),
        })
    }

    /// Whether the daemon has kept the connection open: between calls nothing can be
    /// readable but the end.
    fn usable(&self) -> bool {
        let quiet = || {
            self.socket.set_nonblocking(true).ok()?;
            let read = (&self.socket).read(&mut [0]);
            self.socket.set_nonblocking(false).ok()?;
            Some(matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock))
        };
        self.used.elapsed() < IDLE && quiet().unwrap_or(false)
    }

    fn exchange(&mut self, request: &str, timeout: Duration) -> Result<Vec<u8>, Error> {
        let end = Instant::now() + timeout;
        let mut unsent = request.as_bytes();
        while !unsent.is_empty() {
            self.socket
                .set_write_timeout(Some(left(end, timeout)?))
                .map_err(|e| Error::Broken(e, false))?;
            match self.socket.write(unsent) {
                Ok(n) => unsent = &unsent[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break, // the daemon may have sent the reason before it closed the connection
            }
        }
        // The daemon ignores a request without its newline.
        self.line(end, timeout, unsent.is_empty())
    }

    fn line(&mut self, end: Instant, timeout: Duration, sent: bool) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let mut part = [0; 1 << 14];
        loop {
            self.socket
                .set_read_timeout(Some(left(end, timeout)?))
                .map_err(|e| Error::Broken(e, sent))?;
            match self.socket.read(&mut part) {
                Ok(0) => return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into(), sent)),
                Ok(n) => line.extend_from_slice(&part[..n]),
                Err(e) => match e.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => continue,
                    _ => return Err(Error::Broken(e, sent)),
                },
            }
            if line.last() == Some(&b'\n') {
                return Ok(line);
            }
            if line.len() > MAX_REPLY {
                return Err(Error::Protocol(format!(
                    "it must have at most {MAX_REPLY} bytes"
                )));
            }
        }
    }
}

/// The time that is left of a call's timeout.
fn left(end: Instant, timeout: Duration) -> Result<Duration, Error> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::TimedOut(timeout));
    }
    Ok(left)
}

/// The records of the event log, page by page.
pub struct Events<'a> {
    client: &'a mut Client,
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
