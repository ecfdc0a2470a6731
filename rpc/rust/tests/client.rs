//! The client against a scripted daemon: connections that end, and errors.

mod common;

use cima_client::{Client, Code, Digest, Error, Options};
use common::{error, result, Scripted, SILENCE};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

fn client(daemon: &Scripted) -> Client {
    Client::new(Some(daemon.path()))
}

fn count(id: u32) -> String {
    result(id, r#"{"count":4}"#)
}

fn extended(id: u32) -> String {
    result(
        id,
        &format!(r#"{{"index":3,"digest":"{}"}}"#, "ab".repeat(48)),
    )
}

#[test]
fn connection_is_kept() {
    let daemon = Scripted::new(&[&count(1), &count(2), &count(3)]);
    let cima = client(&daemon);
    for _ in 0..3 {
        assert_eq!(cima.get_measurement_count().unwrap(), 4);
    }
    assert_eq!(daemon.connections(), 1);
}

#[test]
fn hang_up_is_asked_again() {
    let daemon = Scripted::new(&["", &count(1)[..20], &count(1)]);
    assert_eq!(client(&daemon).get_measurement_count().unwrap(), 4);
    assert_eq!(daemon.connections(), 3);
}

#[test]
fn extend_is_never_sent_twice() {
    let daemon = Scripted::new(&["", &extended(1)]);
    let e = client(&daemon)
        .extend_measurement("d", "o", "c")
        .unwrap_err();
    assert!(matches!(e, Error::UnknownOutcome(_)), "{e}");
    assert_eq!(daemon.requests().len(), 1);
}

#[test]
fn extend_goes_out_on_an_open_connection_only() {
    let daemon = Scripted::new(&[&count(1), &extended(1)]);
    let cima = client(&daemon);
    cima.get_measurement_count().unwrap();
    daemon.hang_up();
    assert_eq!(
        cima.extend_measurement("d", "o", "c").unwrap().digest,
        Digest([0xab; 48])
    );
    assert_eq!(daemon.connections(), 2);
}

#[test]
fn extend_is_repeated_where_the_daemon_says_it_did_nothing() {
    let wait = error("1", -32008, r#"{"retry_after_ms":1}"#);
    let daemon = Scripted::new(&[&error("1", -32007, ""), &wait, &extended(2)]);
    assert_eq!(
        client(&daemon)
            .extend_measurement("d", "o", "c")
            .unwrap()
            .index,
        3
    );
    assert_eq!(daemon.connections(), 2);
}

#[test]
fn answer_that_takes_too_long() {
    let daemon = Scripted::new(&[SILENCE, SILENCE, &count(1)]);
    let timeout = Duration::from_millis(200);
    let cima = Client::with(Options {
        path: Some(daemon.path()),
        timeout,
        ..Options::default()
    });
    let e = cima.extend_measurement("d", "o", "c").unwrap_err();
    assert!(matches!(e, Error::UnknownOutcome(_)), "{e}");
    let e = cima.get_measurement_count().unwrap_err();
    assert!(matches!(e, Error::TimedOut(_)), "{e}");
    assert_eq!(cima.get_measurement_count().unwrap(), 4);
    assert_eq!(daemon.connections(), 3); // a late answer would be taken for another's
}

#[test]
fn rate_limits() {
    let away = error("null", -32003, r#"{"retry_after_ms":5}"#);
    let limited = error("1", -32003, r#"{"retry_after_ms":1500}"#);
    let soon = error("1", -32003, r#"{"retry_after_ms":5}"#);
    let daemon = Scripted::new(&[&soon, &count(2)]);
    assert_eq!(client(&daemon).get_measurement_count().unwrap(), 4); // waited out

    let daemon = Scripted::new(&[&away, &limited, &count(2)]);
    let cima = Client::with(Options {
        path: Some(daemon.path()),
        patience: Duration::from_secs(1),
        ..Options::default()
    });
    let e = cima.get_measurement_count().unwrap_err();
    let e = e.rpc().unwrap();
    assert_eq!(
        (e.code, e.retry_after()),
        (Code::RATE_LIMITED, Duration::from_millis(1500))
    );
    assert_eq!(cima.get_measurement_count().unwrap(), 4);
    assert_eq!(daemon.connections(), 2); // turned away once, then kept
}

/// The daemon reports a line that is too long, and hangs up, perhaps later.
#[test]
fn answer_to_no_request_is_the_last() {
    let daemon = Scripted::new(&[&error("null", -32005, ""), &extended(1)]);
    let cima = client(&daemon);
    let e = cima.get_measurement_count().unwrap_err();
    assert_eq!(e.rpc().unwrap().code, Code::TOO_LARGE);
    let made = cima.extend_measurement("d", "o", "c").unwrap();
    assert_eq!((made.index, daemon.connections()), (3, 2));
}

#[test]
fn patience_ends() {
    let daemon = Scripted::new(&[]);
    let patience = Duration::from_millis(300);
    let cima = Client::with(Options {
        path: Some(daemon.path()),
        patience,
        ..Options::default()
    });
    let began = Instant::now();
    assert!(matches!(
        cima.get_measurement_count(),
        Err(Error::Broken(_, true))
    ));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(daemon.connections() > 2);
}

#[test]
fn daemon_that_is_away() {
    let none = Client::with(Options {
        path: Some("/tmp/cima-none/cima.sock".into()),
        patience: Duration::ZERO,
        ..Options::default()
    });
    let e = none.who_am_i().unwrap_err();
    assert!(
        e.to_string()
            .contains("; hint: in a container: mount /run/cima"),
        "{e}"
    );

    // Not there yet.
    let daemon = Scripted::new(&[&count(1)]);
    let path = daemon.path();
    let later = path.with_extension("later");
    let cima = Client::new(Some(later.clone()));
    thread::scope(|s| {
        s.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            fs::rename(&path, &later).unwrap();
        });
        assert_eq!(cima.get_measurement_count().unwrap(), 4);
    });

    let daemon = Scripted::new(&[&count(1), "", &count(1)]);
    let cima = client(&daemon);
    cima.get_measurement_count().unwrap();
    daemon.hang_up();
    fs::remove_file(daemon.path()).unwrap();
    thread::scope(|s| {
        s.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            daemon.listen();
        });
        assert_eq!(cima.get_measurement_count().unwrap(), 4);
    });
}

#[test]
fn replies_that_are_none() {
    for reply in [
        "hello\n",
        "[]\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"count\":4}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"count\":4},\"result\":{\"count\":5}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"count\":\"4\"}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"count\":NaN}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}\n",
        &format!("{}\n", "[".repeat(100_000)),
    ] {
        let daemon = Scripted::new(&[reply]);
        let e = client(&daemon).get_measurement_count().unwrap_err();
        assert!(matches!(e, Error::Protocol(_)), "{e} from {reply:.60}");
    }
    let daemon = Scripted::new(&[&result(1, r#"{"events":[],"total":9,"next":0}"#)]);
    let got: Result<Vec<_>, _> = client(&daemon).events(0, None).collect();
    assert!(matches!(got, Err(Error::Protocol(_))));
}

#[test]
fn a_pod() {
    let container = |pod: &str| {
        format!(
            r#"{{"pid":1,"uid":0,"gid":0,"container":{{"id":"a","runtime":"containerd","cgroup":"/k","assurance":{{"start":"gated","pidfd":true,"cgroup_owner":0,"metadata":"bundle"}}{pod}}}}}"#
        )
    };
    let pod = r#","pod":{"namespace":"prod","name":"web-1","uid":"u"}"#;
    let daemon = Scripted::new(&[&result(1, &container(pod)), &result(2, &container(""))]);
    let cima = client(&daemon);
    let said = cima.who_am_i().unwrap().container.unwrap().pod.unwrap();
    assert_eq!(
        (&*said.namespace, &*said.name, &*said.uid),
        ("prod", "web-1", "u")
    );
    assert_eq!(said.container, "");
    assert_eq!(cima.who_am_i().unwrap().container.unwrap().pod, None);
}
