//! How does a program on tokio ask the daemon?

use crate::client::IDLE;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::records::*;
use crate::replay::{self, Comparison};
use crate::retry::{unreachable, Patience};
use crate::wire::{self, Params, EXTEND, MAX_REPLY};
use crate::{Digest, Options, Quote};
use std::io;
use std::path::PathBuf;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// [`Client`](crate::Client) on tokio: the same calls and the same errors.
///
/// A call that is dropped drops its connection: no late answer is taken for
/// another's. An extend that is dropped may have been carried out.
pub struct AsyncClient {
    path: PathBuf,
    options: Options,
    link: Option<Link>,
    met: bool,
}

impl AsyncClient {
    /// A client of the daemon behind `path` ($CIMA_SOCKET, else
    /// /run/cima/cima.sock). It connects with the first call.
    pub fn new(path: Option<PathBuf>) -> AsyncClient {
        AsyncClient::with(Options {
            path,
            ..Options::default()
        })
    }

    /// A client with other waiting times than the default.
    pub fn with(options: Options) -> AsyncClient {
        AsyncClient {
            path: wire::socket(options.path.clone()),
            options,
            link: None,
            met: false,
        }
    }

    /// Makes any call, and returns its result as it came.
    pub async fn call(
        &mut self,
        method: &str,
        params: serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Error> {
        self.ask(method, &params.into()).await
    }

    /// The algorithm of every digest.
    pub async fn get_default_algorithm(&mut self) -> Result<DefaultAlgorithm, Error> {
        wire::read(&self.ask("GetDefaultAlgorithm", &Params::default()).await?)
    }

    /// How many registers there are, from index 0: 4, on the host 3.
    pub async fn get_measurement_count(&mut self) -> Result<u8, Error> {
        let result = self.ask("GetMeasurementCount", &Params::default()).await?;
        Ok(wire::read::<MeasurementCount>(&result)?.count)
    }

    /// One register: 0–2 are RTMR0–2, 3 is the caller's container register.
    pub async fn get_cc_measurement(
        &mut self,
        index: u8,
        algo_id: Option<u16>,
    ) -> Result<CcMeasurement, Error> {
        let params = Params::default()
            .with("index", index)
            .maybe("algo_id", algo_id);
        wire::read(&self.ask("GetCCMeasurement", &params).await?)
    }

    /// One page of the event log: at most `count` records (up to 1024) from record
    /// `start` on.
    pub async fn get_cc_event_log(
        &mut self,
        start: Option<usize>,
        count: Option<usize>,
    ) -> Result<CcEventLog, Error> {
        let params = Params::default()
            .maybe("start", start)
            .maybe("count", count);
        wire::read(&self.ask("GetCCEventLog", &params).await?)
    }

    /// The records from number `start` on, requested in pages of `page` (the daemon's
    /// choice if `None`) while they are read.
    pub fn events(&mut self, start: usize, page: Option<usize>) -> AsyncEvents<'_> {
        AsyncEvents {
            client: self,
            next: Some(start),
            page,
            here: Vec::new().into_iter(),
        }
    }

    /// A quote and the claims that it is bound to. `nonce` has 8 to 64 bytes, `user_data`
    /// up to 4096.
    pub async fn get_cc_report(
        &mut self,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<CcReport, Error> {
        wire::read(
            &self
                .ask("GetCCReport", &Params::nonce(nonce, user_data, quote))
                .await?,
        )
    }

    /// Evidence about the caller. `nonce` is the relying party's, 8 to 64
    /// bytes, `user_data` has up to 4096.
    pub async fn get_evidence(
        &mut self,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<Evidence, Error> {
        Evidence::parse(
            &self
                .ask("GetEvidence", &Params::nonce(nonce, user_data, quote))
                .await?,
        )
    }

    /// Evidence in another form than CIMA's own: "trustee", "trustee-request",
    /// "cmw", "cmw-cbor", "cel" or "cel-tlv" (cima-evidence(7), FORMS).
    pub async fn get_evidence_as(
        &mut self,
        format: &str,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<FormedEvidence, Error> {
        let params = Params::nonce(nonce, user_data, quote).with("format", format);
        wire::read(&self.ask("GetEvidence", &params).await?)
    }

    /// All registers by name.
    pub async fn get_measurements(&mut self) -> Result<Measurements, Error> {
        wire::read(&self.ask("GetMeasurements", &Params::default()).await?)
    }

    /// Makes an event of the container's own. [`Error::UnknownOutcome`] means that the
    /// event may have been made.
    pub async fn extend_measurement(
        &mut self,
        domain: &str,
        operation: &str,
        content: &str,
    ) -> Result<Extended, Error> {
        let params = Params::default()
            .with("domain", domain)
            .with("operation", operation)
            .with("content", content);
        wire::read(&self.ask(EXTEND, &params).await?)
    }

    /// The OpenRPC document that describes the daemon's methods, as it came.
    pub async fn discover(&mut self) -> Result<String, Error> {
        self.ask("rpc.discover", &Params::default()).await
    }

    /// The caller's identity as the daemon sees it.
    pub async fn who_am_i(&mut self) -> Result<Identity, Error> {
        wire::read(&self.ask("WhoAmI", &Params::default()).await?)
    }

    /// Replays the event log and compares each register with it.
    pub async fn compare_event_log(&mut self) -> Result<Vec<Comparison>, Error> {
        for _ in 0..replay::ATTEMPTS {
            let before = self.registers().await?;
            let events = self.events(0, None).all().await?;
            let after = self.registers().await?;
            if before == after {
                return Ok(replay::compare(replay::replay(&events)?, &after));
            }
        }
        Err(Error::Replay(
            "the registers changed faster than the event log could be read".into(),
        ))
    }

    async fn registers(&mut self) -> Result<Vec<Digest>, Error> {
        let mut all = Vec::new();
        for index in 0..self.get_measurement_count().await? {
            all.push(self.get_cc_measurement(index, None).await?.hash);
        }
        Ok(all)
    }

    async fn ask(&mut self, method: &str, params: &Params) -> Result<String, Error> {
        let mut patience = Patience::new(method, self.options.patience, self.met);
        loop {
            let limit = self.options.timeout;
            let answer = tokio::time::timeout(limit, self.once(method, params)).await;
            match answer.unwrap_or(Err(Error::TimedOut(limit))) {
                Ok(result) => return Ok(result),
                Err(e) => tokio::time::sleep(patience.pause(e)?).await,
            }
        }
    }

    async fn once(&mut self, method: &str, params: &Params) -> Result<String, Error> {
        // The connection is kept only once the answer was read.
        let mut link = match self.link.take().filter(Link::usable) {
            Some(link) => link,
            None => Link::connect(&self.path)
                .await
                .map_err(|e| unreachable(&self.path, e))?,
        };
        self.met = true;
        link.id += 1;
        let line = link
            .exchange(&wire::request(link.id, method, params))
            .await?;
        let (result, goes_on) = wire::reply(&line, link.id);
        let result = result.map(String::from);
        if goes_on {
            link.used = Instant::now();
            self.link = Some(link);
        }
        result
    }
}

/// The records of the event log, page by page: see [`AsyncClient::events`].
pub struct AsyncEvents<'a> {
    client: &'a mut AsyncClient,
    next: Option<usize>,
    page: Option<usize>,
    here: std::vec::IntoIter<EventRecord>,
}

impl AsyncEvents<'_> {
    /// The next record, `None` after the last. One page is held at a time; after an error
    /// there are no more. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<EventRecord>, Error> {
        loop {
            if let Some(event) = self.here.next() {
                return Ok(Some(event));
            }
            let Some(start) = self.next else {
                return Ok(None);
            };
            let page = self.client.get_cc_event_log(Some(start), self.page).await;
            self.next = None;
            let page = page?;
            self.next = replay::next_start(start, &page)?;
            self.here = page.events.into_iter();
        }
    }

    /// All remaining records.
    pub async fn all(mut self) -> Result<Vec<EventRecord>, Error> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await? {
            all.push(event);
        }
        Ok(all)
    }
}

/// One connection: a request, then its answer.
struct Link {
    socket: UnixStream,
    id: u64,
    used: Instant,
}

impl Link {
    async fn connect(path: &PathBuf) -> io::Result<Link> {
        let socket = UnixStream::connect(path).await?;
        Ok(Link {
            socket,
            id: 0,
            used: Instant::now(),
        })
    }

    /// Whether the daemon has kept the connection open: between calls nothing can be
    /// readable but the end.
    fn usable(&self) -> bool {
        let read = self.socket.try_read(&mut [0]);
        let quiet = matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        self.used.elapsed() < IDLE && quiet
    }

    async fn exchange(&mut self, request: &str) -> Result<Vec<u8>, Error> {
        let mut unsent = request.as_bytes();
        while !unsent.is_empty() {
            match self.socket.write(unsent).await {
                Ok(n) => unsent = &unsent[n..],
                Err(_) => break, // the daemon may have sent the reason before it closed the connection
            }
        }
        let sent = unsent.is_empty(); // the daemon ignores a request without its newline
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if line.len() > MAX_REPLY {
                return Err(Error::Protocol(format!(
                    "it must have at most {MAX_REPLY} bytes"
                )));
            }
            let read = self.socket.read_buf(&mut line).await;
            if read.map_err(|e| Error::Broken(e, sent))? == 0 {
                return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into(), sent));
            }
        }
        Ok(line)
    }
}
