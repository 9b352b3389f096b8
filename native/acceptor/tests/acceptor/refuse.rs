//! Connections that are not let in.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use wire::preface::{Preface, Purpose};

use crate::support::{
    Acceptor, Client, preface, preface_of, read_refusal, silent_preface, tcp_from, wait_for,
};

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
    let wrong = refusal_of(&acceptor, &Preface { token: [1; 32], ..preface("s1") }.encode());
    let mut other_version = preface("s1").encode();
    other_version[8] = 77;
    let version = refusal_of(&acceptor, &other_version);
    let foreign = refusal_of(&acceptor, &[b'G'; 96]);
    let mut taken = acceptor.client("s1");
    taken.ask("who");
    let full = refusal_of(&acceptor, &preface("s1").encode());
    let purpose = |is_bulk_lane, is_resumed| Purpose { is_bulk_lane, is_resumed, is_end: false };
    let stray = refusal_of(&acceptor, &preface_of("s1", [9; 16], purpose(true, false)).encode());
    let late = refusal_of(&acceptor, &preface_of("s1", [9; 16], purpose(false, true)).encode());

    assert_eq!((unknown.code, unknown.reason.contains("session \"other\" is not known")), (100, true));
    assert_eq!(wrong, (100, "the token is not one of session \"s1\"".into()));
    assert_eq!(version, (803, "wire format 77 is not spoken here, 1 is".into()));
    assert_eq!(foreign, (803, "the connection does not begin with FARPOOL1".into()));
    assert_eq!((full.0, full.1.contains("has 1 client processes already")), (100, true));
    assert_eq!((stray.0, stray.1.contains("has no worker for this process")), (46, true));
    assert_eq!(stray, late);
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
        let mut head = [0; 8];
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
    let mut waiting: Vec<_> =
        (0..=255).map(|place| tcp_from([127, 0, 0, 2 + place / 64], acceptor.port)).collect();
    let mut newest = acceptor.client("s1");

    assert!(newest.ask("who").is_object());
    let refused = read_refusal(waiting.remove(0));
    assert!(refused.reason.contains("the oldest was dropped"), "{}", refused.reason);
    // The next oldest still waits, and is served when it says who it is.
    let mut second = Client::accepted(waiting.remove(0), "s1");
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
fn of_one_address_128_connections_may_wait() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.ask(json!({"op": "subscribe"}));
    let mut mine: Vec<_> = (0..128).map(|_| tcp_from([127, 0, 0, 9], acceptor.port)).collect();
    let other = tcp_from([127, 0, 0, 8], acceptor.port);
    mine.push(tcp_from([127, 0, 0, 9], acceptor.port));

    let refused = read_refusal(mine.remove(0));

    let reason = "more than 128 connections of 127.0.0.9 wait for acceptance, the oldest was dropped";
    assert_eq!((refused.code, refused.reason.as_str()), (802, reason));
    let event = agent.event();
    assert_eq!((&event["event"], &event["reason"]), (&json!("refused"), &json!(reason)));
    assert!(event["peer"].as_str().unwrap().starts_with("127.0.0.9:"), "{event}");
    agent.open("s1");
    assert!(Client::accepted(other, "s1").ask("who").is_object());
    assert!(Client::accepted(mine.remove(0), "s1").ask("who").is_object());
}

#[test]
fn a_session_has_32_workers_whose_clients_say_nothing_and_others_wait_for_them() {
    let acceptor = Acceptor::start(&["--workers-per-session", "33"]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let silent: Vec<_> = (0..32).map(|_| Client::with(acceptor.unix(), &silent_preface())).collect();
    wait_for("32 workers run", || agent.living().len() == 32);
    let mut waiting = acceptor.client("s1");
    let full = refusal_of(&acceptor, &preface("s1").encode());
    assert_eq!((full.0, full.1.contains("has 33 client processes already")), (100, true), "{full:?}");
    assert_eq!(agent.living().len(), 32, "it waits");
    drop(silent);
    assert!(waiting.ask("who").is_object());
}

#[test]
fn a_refusal_is_told_to_the_agents_and_says_why_a_session_ended() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.ask(json!({"op": "subscribe"}));
    agent.open("s1");
    assert_eq!(agent.close("s1")["workers"], json!([]));

    let stream = acceptor.tcp();
    let peer = stream.local_addr().unwrap().to_string();
    let mut sender = stream.try_clone().unwrap();
    sender.write_all(&preface("s1").encode()).unwrap();
    let refused = read_refusal(stream);

    let reason = "session \"s1\" has ended: the test says so";
    assert_eq!((refused.code, refused.reason.as_str()), (46, reason));
    let event = agent.event();
    assert_eq!(event["event"], json!("refused"));
    assert_eq!((&event["sessionId"], &event["reason"]), (&json!("s1"), &json!(reason)));
    assert_eq!((&event["peer"], &event["connectionId"]), (&json!(peer), &json!(null)));
    assert!(event["at"].as_str().unwrap().ends_with('Z'));
}
