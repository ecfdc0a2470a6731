//! This process at one end over rustls, cimactl at the other, evidence of the simulator.

mod common;

use cima_client::atls::{accept, connect, over_rustls, Appraiser};
use cima_client::tree::Prover;
use cima_client::{Client, Quote};
use common::{root, Place, Simulator};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::{fs, thread, time::Duration};

struct Stage {
    sim: Simulator,
    place: Place,
    policy: String,
}

fn cimactl() -> Command {
    let path = root().join("bin/cimactl");
    assert!(path.exists(), "{}: make build", path.display());
    Command::new(path)
}

fn well(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

impl Stage {
    fn new() -> Stage {
        let (sim, place) = (Simulator::new(), Place::new());
        let first = Client::new(Some(sim.socket()))
            .get_evidence(&[0; 32], None, Quote::Own)
            .unwrap();
        let path = place.0.join("first.json");
        fs::write(&path, first.raw()).unwrap();
        let init = cimactl()
            .args(["policy", "init", path.to_str().unwrap()])
            .args(["--trust-root", &sim.root_pem()])
            .args(["--waive", "collateral,host-input-unknown"])
            .output()
            .unwrap();
        // The caller is of no unit here.
        let any = |line: &str| match line.starts_with("units = ") {
            true => "any = true\n".to_string(),
            false => format!("{line}\n"),
        };
        let policy = place.0.join("policy.toml");
        fs::write(&policy, well(init).lines().map(any).collect::<String>()).unwrap();
        let policy = policy.to_str().unwrap().into();
        Stage { sim, place, policy }
    }

    fn trust(&self) -> [&str; 2] {
        ["--policy", &self.policy]
    }

    /// As a relying party in Rust appraises.
    fn judge(&self, evidence: &[u8], nonce: &[u8], user_data: &[u8]) -> Result<(), String> {
        let file = |name: &str, bytes: &[u8]| {
            let path = self.place.0.join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let mut hex = String::new();
        for b in nonce {
            write!(hex, "{b:02x}").unwrap();
        }
        let got = cimactl()
            .arg("verify")
            .arg(file("evidence.json", evidence))
            .args(["--nonce", &hex, "--user-data"])
            .arg(file("bound", user_data))
            .args(self.trust())
            .args(["--trust-root", &self.sim.root_pem()])
            .output()
            .unwrap();
        match got.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&got.stdout).into()),
        }
    }

    fn prover(&self) -> Arc<Prover> {
        Arc::new(Prover::new(Client::new(Some(self.sim.socket()))))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.0.join(name)
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let (key, certificate) = (self.path("key.pem"), self.path("cert.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=x"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        well(made);
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = over_rustls::server_config(cryptography(), certificate, key);
        config.unwrap().into()
    }
}

fn cryptography() -> Arc<CryptoProvider> {
    ring::default_provider().into()
}

fn client() -> ClientConnection {
    let config = over_rustls::client_config(cryptography()).unwrap();
    ClientConnection::new(config.into(), "container".try_into().unwrap()).unwrap()
}

/// A socket is in its folder before it listens.
fn dial(at: &Path) -> UnixStream {
    for _ in 0..10_000 {
        match UnixStream::connect(at) {
            Ok(link) => return link,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    panic!("nobody listens at {}", at.display());
}

/// Ends a program with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serve_to_cimactl() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let (config, prover) = (stage.server_config(), stage.prover());
    let server = thread::spawn(move || {
        let tls = ServerConnection::new(config).unwrap();
        let session = StreamOwned::new(tls, listener.accept().unwrap().0);
        let mut stream = accept(session, prover, None).unwrap();
        let mut some = [0; 5];
        stream.read_exact(&mut some).unwrap();
        stream.write_all(&[b"got ", &some[..]].concat()).unwrap();
        assert_eq!(stream.read(&mut some).unwrap(), 0); // the client's end
        stream.session().conn.send_close_notify();
        stream.flush().unwrap();
    });
    let mut connecting = cimactl()
        .args(["tls", "connect", &to])
        .args(stage.trust())
        .args(["--trust-root", &stage.sim.root_pem()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = connecting.stdin.take().unwrap();
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    assert_eq!(well(connecting.wait_with_output().unwrap()), "got hello");
    server.join().unwrap();
}

#[test]
fn connect_to_cimactl() {
    let stage = Stage::new();
    let (at, app) = (stage.path("s.sock"), stage.path("app.sock"));
    let listener = UnixListener::bind(&app).unwrap();
    let serving = cimactl()
        .args(["--socket", stage.sim.socket().to_str().unwrap()])
        .args(["tls", "serve", "--listen"])
        .arg(format!("unix:{}", at.display()))
        .arg("--forward")
        .arg(format!("unix:{}", app.display()))
        .stderr(Stdio::null())
        .spawn();
    let _serving = Running(serving.unwrap());
    let answer = thread::spawn(move || {
        for _ in 0..2 {
            let (mut link, _) = listener.accept().unwrap();
            let mut some = [0; 5];
            link.read_exact(&mut some).unwrap();
            link.write_all(&[b"got ", &some[..]].concat()).unwrap();
        }
    });
    let appraiser = Appraiser::new(|e: &[u8], n: &[u8], u: &[u8]| stage.judge(e, n, u));
    for _ in 0..2 {
        let session = StreamOwned::new(client(), dial(&at));
        let mut stream = connect(session, &appraiser, None).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap(); // to the end in order
        assert_eq!(text, "got hello");
    }
    answer.join().unwrap();
    // Evidence is of its session: another one's is refused by cimactl, and so is a relay.
    let wrong = Appraiser::new(|e: &[u8], _: &[u8], u: &[u8]| stage.judge(e, &[7; 32], u));
    let session = StreamOwned::new(client(), dial(&at));
    let error = connect(session, &wrong, None).err().unwrap().to_string();
    assert!(error.contains("nonce"), "{error}");
}

/// Sessions of another protocol are none, whoever serves; cut off isn't ended.
#[test]
fn other_sessions() {
    let stage = Stage::new();
    let config = stage.server_config();
    let mut plain = (*config).clone();
    plain.alpn_protocols.clear();
    let (near, far) = UnixStream::pair().unwrap();
    let other = thread::spawn(move || {
        let tls = ServerConnection::new(plain.into()).unwrap();
        let mut session = StreamOwned::new(tls, far);
        let _ = session.read(&mut [0; 100]);
    });
    let appraiser = Appraiser::new(|e: &[u8], n: &[u8], u: &[u8]| stage.judge(e, n, u));
    let session = StreamOwned::new(client(), near);
    let error = connect(session, &appraiser, None).err().unwrap();
    assert!(error.to_string().contains("cima-tls/1"), "{error}");
    other.join().unwrap();

    let (near, far) = UnixStream::pair().unwrap();
    let prover = stage.prover();
    let server = thread::spawn(move || {
        let session = StreamOwned::new(ServerConnection::new(config).unwrap(), far);
        let mut stream = accept(session, prover, None).unwrap();
        stream.write_all(b"part").unwrap();
        stream.session().sock.shutdown(Shutdown::Both).unwrap();
    });
    let mut stream = connect(StreamOwned::new(client(), near), &appraiser, None).unwrap();
    let mut text = String::new();
    assert!(stream.read_to_string(&mut text).is_err());
    assert_eq!(text, "part");
    server.join().unwrap();
}
