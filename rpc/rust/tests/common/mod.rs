//! What do the tests talk to? A scripted daemon, or cimad-sim.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

/// In place of a reply: sends nothing and keeps the connection.
pub const SILENCE: &str = "...";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory with a path short enough for a socket; removed with its owner.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Place {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/cima-r{}-{n}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Seen {
    replies: Vec<String>,
    requests: Vec<String>,
    links: Vec<UnixStream>,
}

/// A daemon that answers each request line with the next of its replies. After a reply
/// without a newline, and after the last reply, the connection ends.
pub struct Scripted {
    place: Place,
    seen: Arc<Mutex<Seen>>,
}

impl Scripted {
    pub fn new(replies: &[&str]) -> Scripted {
        let replies = replies.iter().map(|r| r.to_string()).collect();
        let seen = Seen {
            replies,
            ..Seen::default()
        };
        let daemon = Scripted {
            place: Place::new(),
            seen: Arc::new(Mutex::new(seen)),
        };
        daemon.listen();
        daemon
    }

    pub fn path(&self) -> PathBuf {
        self.place.0.join("cima.sock")
    }

    pub fn listen(&self) {
        let listener = UnixListener::bind(self.path()).unwrap();
        let seen = self.seen.clone();
        thread::spawn(move || {
            for link in listener.incoming().flatten() {
                seen.lock().unwrap().links.push(link.try_clone().unwrap());
                Scripted::talk(link, &seen);
            }
        });
    }

    fn talk(link: UnixStream, seen: &Mutex<Seen>) {
        let mut lines = BufReader::new(link.try_clone().unwrap());
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let reply = {
                let mut seen = seen.lock().unwrap();
                seen.requests.push(line);
                match seen.replies.is_empty() {
                    true => String::new(),
                    false => seen.replies.remove(0),
                }
            };
            if reply == SILENCE {
                continue;
            }
            let _ = (&link).write_all(reply.as_bytes());
            if !reply.ends_with('\n') {
                let _ = link.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Ends all connections, as a restart does.
    pub fn hang_up(&self) {
        for link in &self.seen.lock().unwrap().links {
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().links.len()
    }

    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

pub fn result(id: u32, text: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{text}}}\n")
}

pub fn error(id: &str, code: i32, data: &str) -> String {
    let data = if data.is_empty() {
        String::new()
    } else {
        format!(",\"data\":{data}")
    };
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":\"m\"{data}}}}}\n")
}

pub fn root() -> PathBuf {
    // In a container the tests run without a build tree.
    env::var_os("CIMA_ROOT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        PathBuf::from,
    )
}

/// A running cimad-sim: $CIMA_SIM, else bin/cimad-sim of this tree.
pub struct Simulator {
    place: Place,
    running: Vec<Child>,
}

impl Simulator {
    pub fn new() -> Simulator {
        // The tests make more requests than a container does.
        Simulator::with("0s", "[limits]\nquotes_burst = 1000\n")
    }

    /// One on another platform than a TD.
    pub fn on(platform: &str) -> Simulator {
        let config = "[limits]\nquotes_burst = 1000\n";
        Simulator::started(&["--platform", platform], config)
    }

    /// One whose quotes take a while.
    pub fn with(quote_delay: &str, config: &str) -> Simulator {
        Simulator::started(&["--quote-delay", quote_delay], config)
    }

    fn started(flags: &[&str], config: &str) -> Simulator {
        let mut s = Simulator {
            place: Place::new(),
            running: Vec::new(),
        };
        fs::write(s.dir("cimad.toml"), config).unwrap();
        let dir = s.dir("td");
        s.run(
            &s.dir("td/td.sock"),
            &[&["td", "--dir", dir.to_str().unwrap()], flags].concat(),
        );
        s.start();
        s
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.place.0.join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir("run/cima/cima.sock")
    }

    /// The root that vouches for its quotes.
    pub fn root_pem(&self) -> String {
        self.dir("td/root.pem").to_str().unwrap().into()
    }

    pub fn start(&mut self) {
        let ready = self.dir("run/cima-admin/admin.sock");
        let _ = fs::remove_file(&ready);
        let (td, run) = (self.dir("td/td.sock"), self.dir("run"));
        let config = self.dir("cimad.toml");
        self.run(
            &ready,
            &[
                "--td",
                td.to_str().unwrap(),
                "--runtime-dir",
                run.to_str().unwrap(),
                "--config",
                config.to_str().unwrap(),
            ],
        );
    }

    /// How many quotes the hardware has made.
    pub fn quotes(&self) -> u32 {
        let admin = cima_client::Client::new(Some(self.dir("run/cima-admin/admin.sock")));
        let metrics = serde_json::Map::from_iter([("metrics".to_string(), true.into())]);
        let status = admin.call("GetStatus", metrics).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let text = status["metrics"].as_str().unwrap();
        let (_, rest) = text
            .split_once("cima_quotes_total{result=\"ok\"} ")
            .unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Ends the daemon; the TD keeps running.
    pub fn stop(&mut self) {
        let mut daemon = self.running.pop().unwrap();
        let pid = daemon.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        daemon.wait().unwrap();
    }

    fn run(&mut self, made: &Path, arguments: &[&str]) {
        let usual = root().join("bin/cimad-sim");
        let program = env::var_os("CIMA_SIM").map_or(usual, PathBuf::from);
        let child = Command::new(&program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.running
            .push(child.unwrap_or_else(|e| panic!("{}: {e}: make build", program.display())));
        for _ in 0..500 {
            if made.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{} is not ready after 10 s", program.display());
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        while !self.running.is_empty() {
            self.stop();
        }
    }
}
