//! How does a program on tokio ask the daemon?

use crate::client::lock;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::pipeline::{Pipeline, Turn, Wake};
use crate::records::*;
use crate::replay::{self, Comparison};
use crate::retry::{unreachable, Patience};
use crate::wire::{self, Params, EXTEND, MAX_REPLY};
use crate::{Digest, Options, Quote};
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::net::UnixStream;

/// [`Client`](crate::Client) on tokio: the same calls and the same errors.
///
/// Tasks may share a client: their requests go over one connection, and none waits for
/// another's answer. An extend whose call is dropped may have been carried out.
pub struct AsyncClient {
    path: PathBuf,
    options: Options,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
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
            link: tokio::sync::Mutex::new(None),
        }
    }

    /// Makes any call, and returns its result as it came.
    pub async fn call(
        &self,
        method: &str,
        params: serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Error> {
        self.ask(method, &params.into()).await
    }

    /// The algorithm of every digest.
    pub async fn get_default_algorithm(&self) -> Result<DefaultAlgorithm, Error> {
        wire::read(&self.ask("GetDefaultAlgorithm", &Params::default()).await?)
    }

    /// How many registers there are, from index 0: 4, on the host 3.
    pub async fn get_measurement_count(&self) -> Result<u8, Error> {
        let result = self.ask("GetMeasurementCount", &Params::default()).await?;
        Ok(wire::read::<MeasurementCount>(&result)?.count)
    }

    /// One register: 0–2 are RTMR0–2, 3 is the caller's container register.
    pub async fn get_cc_measurement(
        &self,
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
        &self,
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
    pub fn events(&self, start: usize, page: Option<usize>) -> AsyncEvents<'_> {
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
        &self,
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
        &self,
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
        &self,
        format: &str,
        nonce: &[u8],
        user_data: Option<&[u8]>,
        quote: Quote,
    ) -> Result<FormedEvidence, Error> {
        let params = Params::nonce(nonce, user_data, quote).with("format", format);
        wire::read(&self.ask("GetEvidence", &params).await?)
    }

    /// All registers by name.
    pub async fn get_measurements(&self) -> Result<Measurements, Error> {
        wire::read(&self.ask("GetMeasurements", &Params::default()).await?)
    }

    /// Makes an event of the container's own. [`Error::UnknownOutcome`] means that the
    /// event may have been made.
    pub async fn extend_measurement(
        &self,
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
    pub async fn discover(&self) -> Result<String, Error> {
        self.ask("rpc.discover", &Params::default()).await
    }

    /// The caller's identity as the daemon sees it.
    pub async fn who_am_i(&self) -> Result<Identity, Error> {
        wire::read(&self.ask("WhoAmI", &Params::default()).await?)
    }

    /// Replays the event log and compares each register with it.
    pub async fn compare_event_log(&self) -> Result<Vec<Comparison>, Error> {
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

    async fn registers(&self) -> Result<Vec<Digest>, Error> {
        let mut all = Vec::new();
        for index in 0..self.get_measurement_count().await? {
            all.push(self.get_cc_measurement(index, None).await?.hash);
        }
        Ok(all)
    }

    async fn ask(&self, method: &str, params: &Params) -> Result<String, Error> {
        let mut patience = Patience::new(method, self.options.patience);
        loop {
            let limit = self.options.timeout;
            let answer = tokio::time::timeout(limit, self.once(method, params)).await;
            match answer.unwrap_or(Err(Error::TimedOut(limit))) {
                Ok(result) => return Ok(result),
                Err(e) => tokio::time::sleep(patience.pause(e)?).await,
            }
        }
    }

    async fn once(&self, method: &str, params: &Params) -> Result<String, Error> {
        let link = self.connected().await?;
        let line = link.ask(method, params).await?;
        wire::result(&line).map(String::from)
    }

    async fn connected(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.lock().await;
        if let Some(usable) = link.as_ref().filter(|l| l.usable()) {
            return Ok(usable.clone());
        }
        let made = Link::connect(&self.path).await;
        let made = Arc::new(made.map_err(|e| unreachable(&self.path, e))?);
        *link = Some(made.clone());
        Ok(made)
    }
}

/// The records of the event log, page by page: see [`AsyncClient::events`].
pub struct AsyncEvents<'a> {
    client: &'a AsyncClient,
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

/// One connection, on which many calls may wait.
struct Link {
    socket: UnixStream,
    state: Mutex<State>,
}

struct State {
    pipeline: Pipeline,
    unsent: Vec<u8>, // requests
    ahead: Vec<u8>,  // what was read of answers
    looked: usize,   // how much of that has no newline
}

/// A call on a link; one that is dropped is given up.
struct Pending<'a> {
    link: &'a Link,
    number: u64,
    reads: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.link.state);
        state.pipeline.give_up(self.number);
        if self.reads {
            state.pipeline.hand_over();
        }
    }
}

impl Link {
    async fn connect(path: &PathBuf) -> io::Result<Link> {
        let state = State {
            pipeline: Pipeline::new(),
            unsent: Vec::new(),
            ahead: Vec::new(),
            looked: 0,
        };
        Ok(Link {
            socket: UnixStream::connect(path).await?,
            state: Mutex::new(state),
        })
    }

    /// Whether the daemon has kept the connection open: between calls nothing can be
    /// readable but the end.
    fn usable(&self) -> bool {
        let known = lock(&self.state).pipeline.usable();
        known.unwrap_or_else(|| {
            let read = self.socket.try_read(&mut [0]);
            matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
        })
    }

    async fn ask(&self, method: &str, params: &Params) -> Result<Vec<u8>, Error> {
        let mut pending = {
            let mut state = lock(&self.state);
            let number = state.pipeline.begin()?;
            let request = wire::request(number, method, params);
            state.unsent.extend_from_slice(request.as_bytes());
            state.pipeline.sent(number); // or another call sends it
            Pending {
                link: self,
                number,
                reads: false,
            }
        };
        poll_fn(|cx| pending.poll(cx)).await
    }

    /// Writes what can be written now.
    fn write(&self, state: &mut State, cx: &mut Context<'_>) {
        while !state.unsent.is_empty() {
            match self.socket.poll_write_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(ready) => {
                    match ready.and_then(|()| self.socket.try_write(&state.unsent)) {
                        Ok(n) => drop(state.unsent.drain(..n)),
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        // The daemon may have sent the reason before it closed the connection.
                        Err(_) => {
                            state.unsent.clear();
                            state.pipeline.last();
                        }
                    }
                }
            }
        }
    }

    /// Reads what can be read now.
    fn read(&self, state: &mut State, cx: &mut Context<'_>) -> Poll<()> {
        if self.socket.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let mut part = [0; 1 << 14];
        match self.socket.try_read(&mut part) {
            Ok(0) => state
                .pipeline
                .end(|sent| Error::Broken(io::ErrorKind::UnexpectedEof.into(), sent)),
            Ok(n) => state.take(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => state
                .pipeline
                .end(|sent| Error::Broken(io::Error::new(e.kind(), e.to_string()), sent)),
        }
        Poll::Ready(())
    }
}

impl State {
    fn take(&mut self, part: &[u8]) {
        self.ahead.extend_from_slice(part);
        while let Some(at) = self.ahead[self.looked..].iter().position(|&c| c == b'\n') {
            let rest = self.ahead.split_off(self.looked + at + 1);
            let mut line = std::mem::replace(&mut self.ahead, rest);
            line.pop();
            self.looked = 0;
            self.pipeline.deliver(line);
        }
        self.looked = self.ahead.len();
        if self.looked > MAX_REPLY {
            self.pipeline
                .end(|_| Error::Protocol(format!("it must have at most {MAX_REPLY} bytes")));
        }
    }
}

impl Pending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, Error>> {
        let mut guard = lock(&self.link.state);
        let state = &mut *guard;
        self.link.write(state, cx);
        loop {
            if self.reads && !state.pipeline.answered(self.number) {
                if self.link.read(state, cx).is_pending() {
                    return Poll::Pending;
                }
                continue;
            }
            if self.reads {
                self.reads = false;
                state.pipeline.hand_over();
            }
            match state
                .pipeline
                .turn(self.number, Wake::Task(cx.waker().clone()))
            {
                Turn::Done(answer) => return Poll::Ready(answer),
                Turn::Read => self.reads = true,
                Turn::Wait => return Poll::Pending,
            }
        }
    }
}
