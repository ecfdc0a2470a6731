//! Attested TLS over sessions that a socket stands for: both ends export the same values.

mod common;

use cima_client::atls::{accept, connect, Appraiser, Error, Session, Stream, PROTOCOL};
use cima_client::sha512::sha512;
use cima_client::tree::{self, Prover};
use cima_client::Client;
use common::Simulator;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

struct Fake {
    link: UnixStream,
    secret: &'static [u8],
    ended: bool, // the link's end is a close_notify
    protocol: &'static [u8],
    came: Arc<AtomicUsize>,
}

impl Read for Fake {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.link.read(to)?;
        self.came.fetch_add(n, Ordering::Relaxed);
        match n == 0 && !self.ended && !to.is_empty() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(n),
        }
    }
}

impl Write for Fake {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.link.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session for Fake {
    fn handshake(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn protocol(&self) -> Option<&[u8]> {
        Some(self.protocol)
    }

    fn export(&self, label: &[u8], context: &[u8]) -> io::Result<[u8; 32]> {
        let value = sha512(&[self.secret, label, b"\0", context].concat());
        Ok(std::array::from_fn(|i| value[i]))
    }
}

fn pair(other: &'static [u8]) -> (Fake, Fake) {
    let (near, far) = UnixStream::pair().unwrap();
    let end = |link, secret| Fake {
        link,
        secret,
        ended: false,
        protocol: PROTOCOL,
        came: Arc::default(),
    };
    (end(near, b"secret"), end(far, other))
}

type Judge = fn(&[u8], &[u8], &[u8]) -> Result<(), String>;

/// Takes evidence with the nonce and user data that it must have.
fn bound(evidence: &[u8], nonce: &[u8], user_data: &[u8]) -> Result<(), String> {
    let evidence: Value = serde_json::from_slice(evidence).map_err(|e| e.to_string())?;
    let claims = &evidence["claims"];
    let said = |name: &str| claims[name].as_str().unwrap_or_default().to_string();
    match said("nonce") == base64(nonce) && said("user_data") == base64(user_data) {
        true if evidence["runtime_log"].is_array() => Ok(()),
        _ => Err("not the evidence of this session".into()),
    }
}

fn nobody(_: &[u8], _: &[u8], _: &[u8]) -> Result<(), String> {
    Err("not the container of the policy".into())
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0, |w, b| w << 8 | *b as usize) << (8 * (3 - three.len()));
        for i in 0..4 {
            let letter = LETTERS[word >> (18 - 6 * i) & 63] as char;
            text.push(if i <= three.len() { letter } else { '=' });
        }
    }
    text
}

fn prover(sim: &Simulator) -> Arc<Prover> {
    Arc::new(Prover::new(Client::new(Some(sim.socket()))))
}

/// A server that greets, then echoes once.
fn serve(
    session: Fake,
    prover: Arc<Prover>,
    client: Option<Judge>,
) -> thread::JoinHandle<Result<(), Error>> {
    thread::spawn(move || {
        let client = client.map(Appraiser::new);
        let mut stream = accept(session, prover, client.as_ref())?;
        stream.write_all(b"hello")?;
        let mut some = [0; 100];
        let n = stream.read(&mut some)?;
        Ok(stream.write_all(&some[..n])?)
    })
}

fn said(stream: &mut Stream<Fake>) -> String {
    let mut text = [0; 5];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8_lossy(&text).into()
}

#[test]
fn both_ways() {
    let sim = Simulator::new();
    let (near, far) = pair(b"secret");
    let server = serve(far, prover(&sim), None);
    let mut stream = connect(near, &Appraiser::new(bound), None).unwrap();
    assert_eq!(said(&mut stream), "hello");
    stream.write_all(b"again").unwrap();
    assert_eq!(said(&mut stream), "again");
    server.join().unwrap().unwrap();
}

#[test]
fn mutual() {
    let sim = Simulator::new();
    for (judge, proves, want) in [
        (bound as Judge, true, true),
        (nobody, true, false),
        (bound, false, false),
    ] {
        let (near, far) = pair(b"secret");
        let server = serve(far, prover(&sim), Some(judge));
        let own = proves.then(|| prover(&sim));
        let stream = connect(near, &Appraiser::new(bound), own);
        if want {
            let mut stream = stream.unwrap();
            assert_eq!(said(&mut stream), "hello");
            stream.write_all(b"again").unwrap();
            assert_eq!(said(&mut stream), "again");
        } else {
            drop(stream);
        }
        assert_eq!(server.join().unwrap().is_ok(), want);
    }
}

#[test]
fn refused() {
    let sim = Simulator::new();
    for (secret, judge) in [
        (&b"a relay's other session"[..], bound as Judge),
        (b"secret", nobody),
    ] {
        let (near, far) = pair(secret);
        let server = serve(far, prover(&sim), None);
        let error = connect(near, &Appraiser::new(judge), None).err();
        assert!(matches!(error, Some(Error::Refused(_))), "{error:?}");
        assert!(server.join().unwrap().is_err());
    }
    let (mut near, far) = pair(b"secret");
    near.protocol = b"h2";
    assert!(connect(near, &Appraiser::new(bound), None).is_err());
    assert!(serve(far, prover(&sim), None).join().unwrap().is_err());
}

#[test]
fn frames() {
    let sim = Simulator::new();
    let nonce = [&[2, 0, 0, 0, 32][..], &[0; 32]].concat();
    let nothing = [&[5, 0, 0, 0, 52][..], &[0; 52]].concat();
    let most = [&[5, 0, 0, 0, 52][..], &[255; 52]].concat();
    for (frames, want) in [
        (b"GET /".to_vec(), "a frame of the kind 71"),
        (vec![2, 0, 0, 0, 31], "a frame of the kind 2 with 31 bytes"),
        (vec![1, 0, 0, 0, 0], "a frame of the kind 1 with 0 bytes"),
        (vec![1, 0, 0, 0x3f, 0xfc], "the kind 1 with 16380 bytes"),
        (vec![3, 0, 0, 8, 1], "a frame of the kind 3"),
        (vec![4, 0, 4, 0, 1], "a frame of the kind 4"),
        (vec![4, 0, 0, 0, 53], "a frame of the kind 4"),
        (vec![5, 0, 0, 0, 51], "a frame of the kind 5"),
        (vec![6, 1, 0x80, 0, 1], "a frame of the kind 6"),
        (vec![0, 0, 0, 0, 1], "a frame of the kind 0"),
        (vec![7, 0, 0, 0, 1], "a frame of the kind 7"),
        (vec![1, 0, 0, 0, 1, b'x'], "must begin with a nonce"),
        (nothing.clone(), "must begin with a nonce"),
        (vec![2, 0], "end of file"),
        (nonce[..20].to_vec(), "end of file"),
        ([&nonce[..], &nonce].concat(), "of the kind 5 now, not of 2"),
        ([&nonce[..], &most].concat(), "at most 2097152 pieces"),
        ([&nonce[..], &nothing, &nonce].concat(), "too soon"),
        ([&nonce[..], &nothing, &nothing].concat(), "of no report"),
        (
            [&nonce[..], &nothing, &[3, 0, 0, 0, 1, b'x']].concat(),
            "nobody asked for",
        ),
    ] {
        let (mut near, far) = pair(b"secret");
        let server = serve(far, prover(&sim), None);
        near.write_all(&frames).unwrap();
        near.link.shutdown(Shutdown::Write).unwrap();
        let error = server.join().unwrap().unwrap_err();
        let said = error.to_string();
        assert!(said.contains(want), "{said}, want {want}");
    }
}

#[test]
fn ends() {
    let sim = Simulator::new();
    for ended in [true, false] {
        let (near, far) = pair(b"secret");
        let server = serve(far, prover(&sim), None);
        let mut stream = connect(near, &Appraiser::new(bound), None).unwrap();
        assert_eq!(said(&mut stream), "hello");
        stream.session().ended = ended;
        stream.session().link.shutdown(Shutdown::Write).unwrap();
        server.join().unwrap().unwrap_err();
        let end = stream.read(&mut [0; 9]);
        assert_eq!(end.is_ok(), ended, "{end:?}");
        assert_eq!(end.unwrap_or(0), 0);
    }
}

/// The second session has no logs; for another appraiser all travel.
#[test]
fn logs_travel_once() {
    let sim = Simulator::new();
    let (appraiser, prover) = (Appraiser::new(bound), prover(&sim));
    let bytes = |by: &Appraiser| {
        let (near, far) = pair(b"secret");
        let came = near.came.clone();
        let server = serve(far, prover.clone(), None);
        drop(connect(near, by, None).unwrap());
        let _ = server.join();
        came.load(Ordering::Relaxed)
    };
    let (first, second) = (bytes(&appraiser), bytes(&appraiser));
    let other = bytes(&Appraiser::new(bound));
    assert!(second + 2000 < first, "{second} bytes after {first}");
    assert!(second + 2000 < other, "{second} bytes, {other} for another");
}

/// Calls of many threads share quotes, and each is proved by its own place.
#[test]
fn one_quote_for_all_that_wait() {
    let sim = Simulator::with("500ms", "");
    let (before, prover) = (sim.quotes(), prover(&sim));
    let all: Vec<_> = (0..200u8)
        .map(|i| {
            let prover = prover.clone();
            thread::spawn(move || {
                let of = |data: &[u8]| tree::of("https://example.org/key/v1", data).unwrap();
                let proof = prover.prove(&of(&[i]), b"nonce of a test!").unwrap();
                let proof = tree::Proof::read(&proof.text()).unwrap();
                for (data, want) in [([i], true), ([i.wrapping_add(1)], false)] {
                    let must = proof.bound(&of(&data), b"nonce of a test!").unwrap();
                    let evidence = proof.evidence().as_bytes();
                    let got = bound(evidence, &must.nonce, &must.user_data);
                    assert_eq!(got.is_ok(), want);
                }
            })
        })
        .collect();
    for one in all {
        one.join().unwrap();
    }
    // The first one's, one for those who came meanwhile, and a few where the machine is busy.
    let quotes = sim.quotes() - before;
    assert!((2..=6).contains(&quotes), "{quotes} quotes");
}

#[test]
fn without_a_daemon() {
    let nowhere = cima_client::Options {
        path: Some("/nonexistent/cima.sock".into()),
        patience: std::time::Duration::ZERO,
        ..Default::default()
    };
    let prover = Prover::new(Client::with(nowhere));
    let key = tree::of("a:b", b"x").unwrap();
    for _ in 0..2 {
        let error = prover.prove(&key, b"nonce of a test!").unwrap_err();
        assert!(matches!(error, cima_client::Error::Unreachable(..)));
    }
}
