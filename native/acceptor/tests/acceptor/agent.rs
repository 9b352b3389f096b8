//! The control socket.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Acceptor, Client, hex, preface, session_of, wait_for};

#[test]
fn hello_tells_where_the_acceptor_listens() {
    let acceptor = Acceptor::start(&[]);
    let hello = acceptor.agent().ask(json!({"op": "hello"}));
    assert_eq!(hello["ok"], json!(true));
    assert_eq!(hello["pid"], json!(acceptor.pid()));
    assert_eq!(hello["port"], json!(acceptor.port));
    assert_eq!(hello["unixPath"], json!(acceptor.folder.join("data")));
    assert_eq!(hello["workerSandbox"], json!("strict"));
    assert_eq!(hello["version"], json!(env!("CARGO_PKG_VERSION")));
    let mode = std::fs::metadata(acceptor.control_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn garbage_is_answered_and_the_connection_goes_on() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.stream.write_all(b"garbage\n\n  \n\xff\xfe\n{\"id\":7,\"op\":\"dance\"}\n{\"id\":8,").unwrap();
    assert_eq!(agent.line()["error"]["code"], "badRequest");
    assert_eq!(agent.line()["error"]["code"], "badRequest");
    let unknown = agent.line();
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(7), &json!("unknownOp")));
    assert_eq!(unknown["error"]["message"], "there is no op \"dance\"");
    agent.stream.write_all(b"\"op\":\"status\"}\n").unwrap();
    assert_eq!(agent.line(), json!({"id": 8, "ok": true, "sessions": [], "ended": []}));
}

#[test]
fn a_line_without_end_is_refused_and_others_are_not_disturbed() {
    let acceptor = Acceptor::start(&[]);
    let (mut agent, mut other) = (acceptor.agent(), acceptor.agent());
    let endless = vec![b'x'; 2 << 20];
    let mut stream = agent.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || stream.write_all(&endless));
    assert_eq!(agent.line()["error"]["code"], "badRequest");
    sending.join().unwrap().expect_err("the connection is closed");
    assert_eq!(other.ask(json!({"op": "hello"}))["ok"], json!(true));
}

#[test]
fn opening_is_idempotent_when_equal_and_an_error_when_not() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    let mut open = |change: &dyn Fn(&mut Value)| {
        let mut session = session_of("s1");
        change(&mut session);
        let answer = agent.ask(json!({"op": "openSession", "session": session}));
        answer["error"]["code"].as_str().map(str::to_owned)
    };
    assert_eq!(open(&|_| ()), None);
    assert_eq!(open(&|_| ()), None);
    assert_eq!(open(&|session| session["secret"] = json!("A5".repeat(32))), None);
    assert_eq!(
        open(&|session| session["secret"] = json!("00".repeat(32))).as_deref(),
        Some("sessionConflict")
    );
    assert_eq!(
        open(&|session| session["gpus"][0]["uuid"] = json!("GPU-9")).as_deref(),
        Some("sessionConflict")
    );
    assert_eq!(open(&|session| session["gpus"] = json!([])).as_deref(), Some("invalidSession"));
}

#[test]
fn a_new_agent_adopts_what_an_earlier_one_left() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mine = preface("s1");
    let mut client = Client::with(acceptor.tcp(), &mine);
    client.ask("who");

    let mut agent = acceptor.agent();
    wait_for("the worker has said who its client is", || agent.living()[0]["program"] == "test");
    let status = agent.ask(json!({"op": "status"}));

    let session = &status["sessions"][0];
    assert_eq!(
        (&session["id"], &session["gpus"], &session["isOpen"]),
        (&json!("s1"), &session_of("s1")["gpus"], &json!(true))
    );
    let worker = &session["workers"][0];
    assert_eq!(worker["clientPid"], json!(4242));
    assert_eq!(worker["sandbox"], json!(["seccomp"]));
    assert_eq!(worker["connectionId"], json!(hex(&mine.connection_id)));
    assert!(worker["startedAt"].as_str().unwrap().ends_with('Z'));
    assert!(client.ask("who").is_object());
    assert!(session.get("secret").is_none());
}

#[test]
fn an_agent_that_does_not_read_is_dropped_and_holds_nobody_up() {
    let acceptor = Acceptor::start(&[]);
    let mut slow = acceptor.agent();
    // Each answer repeats the id: a megabyte for each line of almost a megabyte, none of them read.
    let line = json!({"id": "x".repeat(900 << 10), "op": "hello"}).to_string() + "\n";
    let dropped = (0..40).any(|_| slow.stream.write_all(line.as_bytes()).is_err());
    assert!(dropped, "36 MB of answers were buffered");
    assert_eq!(acceptor.agent().ask(json!({"op": "hello"}))["ok"], json!(true));
}

#[test]
fn an_agent_that_ends_its_side_still_gets_the_answer_it_waits_for() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let mut client = acceptor.client("s1");
    client.ask("ignore-term");
    agent.send(&json!({"id": 1, "op": "closeSession", "sessionId": "s1"}));
    agent.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(agent.line()["workers"][0]["exit"], json!({"signal": 9}));
    assert!(agent.is_closed());
}
