//! Connections that are not let in.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wire::preface::Preface;

use crate::support::{Acceptor, is_alive, preface, read_refusal, signal, wait_for};

fn refusal_of(acceptor: &Acceptor, bytes: &[u8]) -> (i32, String) {
    let mut stream = acceptor.tcp();
    stream.write_all(bytes).unwrap();
    let refused = read_refusal(stream);
    (refused.code, refused.reason)
}

#[test]
fn every_refusal_names_its_reason_and_is_logged_with_the_peer() {
    let acceptor = Acceptor::start(&["--workers-per-session", "1"]);
    acceptor.agent().open("s1");
    let mut stream = acceptor.tcp();
    let peer = stream.local_addr().unwrap();

    stream.write_all(&preface("other").encode()).unwrap();
    let unknown = read_refusal(stream);
    let wrong = refusal_of(&acceptor, &Preface { secret: [1; 32], ..preface("s1") }.encode());
    let mut other_version = preface("s1").encode();
    other_version[8] = 77;
    let version = refusal_of(&acceptor, &other_version);
    let foreign = refusal_of(&acceptor, &[b'G'; 96]);
    let mut taken = acceptor.client("s1");
    taken.ask("who");
    let full = refusal_of(&acceptor, &preface("s1").encode());
    let stray = Preface { connection_id: [9; 16], is_bulk_lane: true, ..preface("s1") };
    let stray = refusal_of(&acceptor, &stray.encode());

    assert_eq!((unknown.code, unknown.reason.contains("session \"other\" is not known")), (100, true));
    assert_eq!(wrong, (100, "the secret is not that of session \"s1\"".into()));
    assert_eq!(version, (803, "wire format 77 is not spoken here, 1 is".into()));
    assert_eq!(foreign, (803, "the connection does not begin with FARPOOL1".into()));
    assert_eq!((full.0, full.1.contains("has 1 client processes already")), (100, true));
    assert_eq!((stray.0, stray.1.contains("has no worker for the process")), (46, true));
    let log = acceptor.log();
    let line = log.lines().find(|line| line.contains("other")).expect("the refusal is logged");
    assert!(line.contains(&peer.to_string()) && line.contains("audit"), "{line}");
    assert!(!log.contains(&"a5".repeat(32)), "a secret is in the log");
}

#[test]
fn a_closing_session_lets_nobody_in() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let mut client = acceptor.client("s1");
    client.ask("ignore-term");

    agent.send(
        &serde_json::json!({"id": 1, "op": "closeSession", "sessionId": "s1", "reason": "maintenance"}),
    );
    std::thread::sleep(Duration::from_millis(100));
    let (code, reason) = refusal_of(&acceptor, &preface("s1").encode());

    assert_eq!((code, reason.as_str()), (46, "session \"s1\" is closing: maintenance"));
    assert_eq!(agent.line()["id"], 1);
}

#[test]
fn a_refused_client_that_sent_more_than_its_preface_still_reads_why() {
    let acceptor = Acceptor::start(&[]);
    let mut bytes = preface("other").encode().to_vec();
    bytes.resize(300 << 10, 7);
    for _ in 0..20 {
        let mut stream = acceptor.tcp();
        let mut sender = stream.try_clone().unwrap();
        let bytes = bytes.clone();
        let sending = std::thread::spawn(move || sender.write_all(&bytes).is_ok());
        let mut head = [0; 24];
        stream.read_exact(&mut head).unwrap();
        drop(stream);
        let _ = sending.join();
    }
}

#[test]
fn half_a_preface_is_given_five_seconds_and_no_worker() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mut stream = acceptor.tcp();
    stream.write_all(&preface("s1").encode()[..60]).unwrap();
    let start = Instant::now();

    let refused = read_refusal(stream);

    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(4500) && waited < Duration::from_secs(9), "{waited:?}");
    assert_eq!(refused.reason, "no preface came within 5 seconds");
    assert_eq!(acceptor.agent().living().len(), 0);
}

#[test]
fn beyond_256_waiting_connections_the_oldest_goes() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mut waiting: Vec<_> = (0..256).map(|_| acceptor.tcp()).collect();
    let mut newest = acceptor.client("s1");

    assert!(newest.ask("who").is_object());
    let refused = read_refusal(waiting.remove(0));
    assert!(refused.reason.contains("the oldest was dropped"), "{}", refused.reason);
    // The next oldest still waits, and is served when it says who it is.
    let mut second = crate::support::Client::accepted(waiting.remove(0), "s1");
    assert!(second.ask("who").is_object());
}

#[test]
fn garbage_on_the_data_sockets_does_no_harm() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    for length in [0, 1, 95, 96, 97, 5000, 200_000] {
        let garbage: Vec<u8> = (0..length).map(|n: usize| u8::try_from(n * 31 % 251).unwrap()).collect();
        let _ = acceptor.tcp().write_all(&garbage);
        let _ = acceptor.unix().write_all(&garbage);
    }
    assert!(acceptor.client("s1").ask("who").is_object());
}

#[test]
fn a_worker_that_cannot_be_started_is_a_refusal() {
    let acceptor = Acceptor::start_with_script("#!/no/such/interpreter\n", &[]);
    acceptor.agent().open("s1");
    let (code, reason) = refusal_of(&acceptor, &preface("s1").encode());
    assert_eq!(code, 802);
    assert!(reason.contains("cannot be started"), "{reason}");
    assert_eq!(acceptor.agent().living().len(), 0);
}

#[test]
fn a_second_acceptor_is_refused_a_stale_socket_is_replaced() {
    let mut acceptor = Acceptor::start(&[]);
    let mut second = acceptor.start_again();
    assert_eq!(second.wait().unwrap().code(), Some(1));
    assert!(acceptor.log().contains("is in use"));

    acceptor.agent().open("s1");
    let mut client = acceptor.client("s1");
    let orphan = client.worker_pid();
    signal(acceptor.pid(), Signal::KILL);
    acceptor.wait();
    acceptor.restart();

    // The worker of the killed acceptor serves on until its client goes.
    assert!(client.ask("who").is_object());
    drop(client);
    wait_for("the orphan ends", || !is_alive(orphan) || is_zombie(orphan));
}

/// Nobody reaps orphans in a container without an init process.
fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
