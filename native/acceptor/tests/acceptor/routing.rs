//! Connections that say in their TLS handshake where they are to go, notices, and what changes in an open session.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use transport::{end_token, routing_token};
use wire::preface::{Preface, Purpose};

use crate::support::{
    Acceptor, Client, SECRET, hex, is_alive, preface, preface_of, read_refusal, session_of, wait_for,
};

/// The server name that routes to the process `id`.
fn name_of(session: &str, id: [u8; 16], token: &[u8; 32], flags: u32) -> String {
    format!("{}.{}.f{flags}.{session}.farpool.internal", hex(&id), hex(&token[..16]))
}

/// What a TLS client sends first.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

fn with_identity(folder_of: &str) -> String {
    let path = std::env::temp_dir().join(format!("farpool-identity-{}-{folder_of}", std::process::id()));
    std::fs::write(&path, "certificate").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_server_name_routes_and_its_worker_gets_the_whole_hello() {
    let identity = with_identity("whole");
    let acceptor = Acceptor::start_strict(&["--worker-identity", &identity]);
    acceptor.agent().open("s1");
    let id = [0x7a; 16];
    let hello = client_hello(&name_of("s1", id, &routing_token(&SECRET, &id), 0));
    let mut stream = acceptor.tcp();
    // In pieces: what has come is looked at and left where it is.
    for piece in hello.chunks(hello.len() / 3) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    let told = Client::of(stream).hear();
    assert_eq!(told["hello"], json!(hello));
    assert_eq!(
        (&told["first"]["connectionId"], &told["first"]["connection"]),
        (&json!(hex(&id)), &json!("tls"))
    );
    std::fs::remove_file(identity).unwrap();
}

#[test]
fn other_handshakes_are_refused_and_say_why() {
    let acceptor = Acceptor::start_strict(&[]);
    acceptor.agent().open("s1");
    let refusal = |bytes: &[u8]| {
        let mut stream = acceptor.tcp();
        stream.write_all(bytes).unwrap();
        let refused = read_refusal(stream);
        (refused.code, refused.reason)
    };
    let id = [3; 16];
    let forged = refusal(&client_hello(&name_of("s1", id, &[1; 32], 0)));
    assert_eq!(forged, (100, "the token is not one of session \"s1\"".to_owned()));
    let ending = refusal(&client_hello(&name_of("s1", id, &end_token(&SECRET, &id), 4)));
    assert_eq!((ending.0, ending.1.starts_with("the server name is not")), (803, true), "{ending:?}");
    let resumed = refusal(&client_hello(&name_of("s1", id, &routing_token(&SECRET, &id), 2)));
    assert_eq!((resumed.0, resumed.1.contains("has no worker for this process")), (46, true), "{resumed:?}");
    let stranger = refusal(&client_hello("example.com"));
    assert_eq!((stranger.0, stranger.1.starts_with("the server name is not")), (803, true), "{stranger:?}");
    let mut garbage = vec![22, 3, 1, 0, 200];
    garbage.resize(205, 0xee);
    assert_eq!(refusal(&garbage).0, 803);
    // Endless, and never a whole hello.
    let mut endless = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3];
    endless.resize(9000, 0);
    assert_eq!(refusal(&endless).0, 803);
    let plain = refusal(&preface("s1").encode());
    assert_eq!(plain, (803, "connections to this server are made with TLS; this one is in clear".to_owned()));
    assert_eq!(acceptor.agent().living().len(), 0);
    // On a Unix socket nobody can listen in.
    assert!(Client::accepted(acceptor.unix(), "s1").ask("who").is_object());
}

#[test]
fn half_a_hello_is_given_five_seconds() {
    let acceptor = Acceptor::start_strict(&[]);
    let mut stream = acceptor.tcp();
    stream.write_all(&client_hello("example.com")[..100]).unwrap();
    let start = Instant::now();
    let refused = read_refusal(stream);
    assert!(start.elapsed() > Duration::from_millis(4500), "{:?}", start.elapsed());
    assert_eq!(refused.reason, "no preface came within 5 seconds");
}

#[test]
fn a_notice_ends_the_worker_of_a_dead_process_and_nobody_elses() {
    let acceptor = Acceptor::start_strict(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let (mine, other) = (preface("s1"), preface("s1"));
    let mut client = Client::with(acceptor.unix(), &mine);
    let mut stubborn = Client::with(acceptor.unix(), &other);
    stubborn.ask("ignore-term");
    let pids = [client.worker_pid(), stubborn.worker_pid()];
    let notice = |of: &Preface, token: [u8; 32]| {
        let purpose = Purpose { is_end: true, ..Purpose::default() };
        Preface { token, purpose, ..of.clone() }.encode()
    };
    let forged = {
        let mut stream = acceptor.tcp();
        stream.write_all(&notice(&mine, routing_token(&SECRET, &mine.connection_id))).unwrap();
        read_refusal(stream)
    };
    assert_eq!((forged.code, forged.reason.as_str()), (100, "the token is not one of session \"s1\""));
    assert!(client.ask("who").is_object());

    for process in [&mine, &other] {
        // Also in clear, and also where data are not.
        let mut stream = acceptor.tcp();
        stream.write_all(&notice(process, end_token(&SECRET, &process.connection_id))).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [1]);
    }
    wait_for("both workers have ended", || agent.living().is_empty());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    // A process that has no worker has none to end.
    let mut stream = acceptor.tcp();
    stream.write_all(&notice(&mine, end_token(&SECRET, &mine.connection_id))).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [1]);
}

#[test]
fn a_session_that_is_opened_again_has_other_keys_from_then_on() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    let mut open = |trust: Value| {
        let mut session = session_of("s1");
        session["trust"] = trust;
        session["graceSeconds"] = json!(7);
        let answer = agent.ask(json!({"op": "openSession", "session": session}));
        assert_eq!(answer["ok"], json!(true), "{answer}");
    };
    let trust = |revoked: &[&str]| json!({"serverId": "g1", "managerKeys": [], "revoked": revoked});
    open(trust(&[]));
    let mine = preface("s1");
    let mut client = Client::with(acceptor.tcp(), &mine);
    let first = client.ask("who")["first"].clone();
    assert_eq!((&first["trust"], &first["graceSeconds"]), (&trust(&[]), &json!(7)));

    open(trust(&["thumb"]));
    let purpose = Purpose { is_resumed: true, ..Purpose::default() };
    let mut again = acceptor.tcp();
    again.write_all(&preface_of("s1", mine.connection_id, purpose).encode()).unwrap();
    assert_eq!(client.ask("lane"), json!({"connection": "tcp", "trust": trust(&["thumb"])}));
    assert_eq!(acceptor.client("s1").ask("who")["first"]["trust"], trust(&["thumb"]));
}
