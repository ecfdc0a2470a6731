//! To which call does an answer belong?
//!
//! Many calls may wait on one connection. Their requests have numbers; answers come in any
//! order. One of the calls reads the answers of all until it has its own, then the next one
//! does. Nothing here reads or writes.

use crate::client::IDLE;
use crate::error::{Code, Error};
use crate::wire;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::task::Waker;
use std::thread::Thread;
use std::time::Instant;

/// How whoever waits for a call is woken.
pub(crate) enum Wake {
    Thread(Thread),
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    Task(Waker),
}

impl Wake {
    fn wake(&self) {
        match self {
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(task) => task.wake_by_ref(),
        }
    }
}

/// What a call does next.
pub(crate) enum Turn {
    Done(Result<Vec<u8>, Error>),
    Read,
    Wait,
}

#[derive(Default)]
struct Call {
    sent: bool, // all of it: the daemon may have read it
    wake: Option<Wake>,
}

/// The calls that wait on one connection, in the order of their requests.
pub(crate) struct Pipeline {
    number: u64,
    waiting: BTreeMap<u64, Call>,
    answers: BTreeMap<u64, Result<Vec<u8>, Error>>,
    reading: bool,
    over: bool,
    used: Instant,
}

impl Pipeline {
    pub fn new() -> Pipeline {
        Pipeline {
            number: 0,
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            reading: false,
            over: false,
            used: Instant::now(),
        }
    }

    /// Whether another request can follow; none if only the connection itself can tell.
    pub fn usable(&self) -> Option<bool> {
        match (self.over, self.waiting.is_empty()) {
            (true, _) => Some(false),
            (false, false) => Some(true),
            (false, true) if self.used.elapsed() >= IDLE => Some(false),
            (false, true) => None,
        }
    }

    /// The number of a new call.
    pub fn begin(&mut self) -> Result<u64, Error> {
        if self.over {
            return Err(Error::Broken(ErrorKind::NotConnected.into(), false));
        }
        self.number += 1;
        self.waiting.insert(self.number, Call::default());
        Ok(self.number)
    }

    /// All of a request was sent.
    pub fn sent(&mut self, number: u64) {
        if let Some(call) = self.waiting.get_mut(&number) {
            call.sent = true;
        }
    }

    /// No other request can follow.
    pub fn last(&mut self) {
        self.over = true;
    }

    /// Gives a call up; an answer that still comes for it is passed over. Returns whether
    /// it was the last that waited: then the connection is closed, so that the daemon gives
    /// the call up too.
    pub fn give_up(&mut self, number: u64) -> bool {
        self.answers.remove(&number);
        let was = self.waiting.remove(&number).is_some();
        let alone = was && self.waiting.is_empty();
        self.over |= alone;
        alone
    }

    /// What a call does next. `wake` is how it is woken if it must wait.
    pub fn turn(&mut self, number: u64, wake: Wake) -> Turn {
        if let Some(answer) = self.answers.remove(&number) {
            return Turn::Done(answer);
        }
        if !self.reading {
            self.reading = true;
            return Turn::Read;
        }
        if let Some(call) = self.waiting.get_mut(&number) {
            call.wake = Some(wake);
        }
        Turn::Wait
    }

    /// Whether a call has its answer.
    pub fn answered(&self, number: u64) -> bool {
        self.answers.contains_key(&number)
    }

    /// Lets another call read.
    pub fn hand_over(&mut self) {
        self.reading = false;
        self.used = Instant::now();
        if let Some(wake) = self.waiting.values().find_map(|call| call.wake.as_ref()) {
            wake.wake();
        }
    }

    /// Gives a line to the call that it answers.
    pub fn deliver(&mut self, line: Vec<u8>) {
        let number = match wire::number(&line) {
            Ok(number) => number,
            Err(Error::Rpc(e)) if e.code == Code::RATE_LIMITED => {
                return self.end(|_| Error::TurnedAway(e.clone()));
            }
            Err(Error::Rpc(e)) => {
                // The daemon closes the connection. It has answered all requests before the
                // first that has no answer, and reads none behind it.
                if let Some((&first, _)) = self.waiting.iter().next() {
                    self.finish(first, Err(Error::Rpc(e)));
                }
                return self.end(|_| Error::Broken(ErrorKind::UnexpectedEof.into(), false));
            }
            Err(e) => {
                let why = e.to_string();
                return self.end(|_| Error::Protocol(why.clone()));
            }
        };
        if number == 0 || number > self.number {
            let why = format!("it is to request {number}, which was not made");
            return self.end(|_| Error::Protocol(why.clone()));
        }
        self.over |= wire::stops(&line);
        self.finish(number, Ok(line));
    }

    fn finish(&mut self, number: u64, answer: Result<Vec<u8>, Error>) {
        if let Some(call) = self.waiting.remove(&number) {
            self.answers.insert(number, answer);
            if let Some(wake) = call.wake {
                wake.wake();
            }
        }
    }

    /// Ends all calls; `why` is told whether the daemon may have read the request.
    pub fn end(&mut self, why: impl Fn(bool) -> Error) {
        self.over = true;
        let all: Vec<_> = self.waiting.iter().map(|(n, c)| (*n, c.sent)).collect();
        for (number, sent) in all {
            self.finish(number, Err(why(sent)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_word_is_about_the_first_without_an_answer() {
        let mut p = Pipeline::new();
        for number in 1..=4 {
            assert_eq!(p.begin().unwrap(), number);
            p.sent(number);
        }
        p.deliver(br#"{"jsonrpc":"2.0","id":2,"result":1}"#.to_vec());
        p.deliver(
            br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"long"}}"#.to_vec(),
        );
        let mut answer = |number| match p.turn(number, Wake::Thread(std::thread::current())) {
            Turn::Done(answer) => answer,
            _ => panic!("{number} has no answer"),
        };
        assert!(matches!(answer(1), Err(Error::Rpc(_))));
        assert!(answer(2).is_ok());
        for number in 3..=4 {
            assert!(matches!(answer(number), Err(Error::Broken(_, false))));
        }
        assert!(p.begin().is_err());
    }

    #[test]
    fn answers_of_others_are_none() {
        for line in [
            &br#"{"jsonrpc":"2.0","id":7,"result":1}"#[..],
            br#"{"jsonrpc":"2.0","id":0,"result":1}"#,
            br#"{"jsonrpc":"2.0","result":1}"#,
            b"hello",
        ] {
            let mut p = Pipeline::new();
            p.begin().unwrap();
            p.deliver(line.to_vec());
            let turn = p.turn(1, Wake::Thread(std::thread::current()));
            assert!(matches!(turn, Turn::Done(Err(Error::Protocol(_)))));
        }
        let mut p = Pipeline::new();
        p.begin().unwrap();
        p.begin().unwrap();
        assert!(!p.give_up(1));
        p.deliver(br#"{"jsonrpc":"2.0","id":1,"result":1}"#.to_vec()); // late: passed over
        assert_eq!(p.usable(), Some(true));
        assert!(p.give_up(2));
        assert_eq!(p.usable(), Some(false));
    }
}
