//! Acceptors that die or are replaced while programs run.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wire::preface::{Preface, Purpose};

use crate::support::{
    Acceptor, Agent, Client, hex, is_alive, preface, preface_of, read_refusal, session_of, signal,
    silent_preface, wait_for,
};
use std::io::Write;

fn workers(agent: &mut Agent) -> Vec<Value> {
    let status = agent.ask(json!({"op": "status"}));
    status["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|session| session["workers"].as_array().unwrap().clone())
        .collect()
}

fn resumed(of: &Preface) -> Preface {
    preface_of(&of.session_id, of.connection_id, Purpose { is_resumed: true, ..Purpose::default() })
}

#[test]
fn a_second_acceptor_is_refused() {
    let acceptor = Acceptor::start(&[]);
    let mut second = acceptor.start_again();
    assert_eq!(second.wait().unwrap().code(), Some(1));
    assert!(acceptor.log().contains("is in use"));
}

#[test]
fn workers_of_a_killed_acceptor_are_taken_over_with_their_memory_and_reports() {
    let mut acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mine = preface("s1");
    let mut client = Client::with(acceptor.tcp(), &mine);
    let mut other = Client::accepted(acceptor.unix(), "s1");
    assert_eq!(client.ask("reserve 700"), json!({"Ok": null}));
    client.ask("report 5");
    other.ask("who");
    let (pid, started_at) = (client.worker_pid(), workers(&mut acceptor.agent())[0]["startedAt"].clone());

    acceptor.kill();
    assert!(client.ask("who").is_object(), "it is not noticed");
    client.ask("report 6");
    acceptor.restart();

    let mut agent = acceptor.agent();
    agent.ask(json!({"op": "subscribe"}));
    wait_for("both are known", || workers(&mut agent).len() == 2);
    let status = agent.ask(json!({"op": "status"}));
    assert_eq!(status["sessions"][0]["isOpen"], json!(false));
    let found = workers(&mut agent);
    let found =
        found.iter().find(|worker| worker["connectionId"] == json!(hex(&mine.connection_id))).unwrap();
    let expected = json!([pid, 4242, "test", ["seccomp"], started_at, 6]);
    let fields = ["pid", "clientPid", "program", "sandbox", "startedAt"].map(|name| found[name].clone());
    assert_eq!(
        json!([fields[0], fields[1], fields[2], fields[3], fields[4], found["report"]["calls"]]),
        expected
    );

    agent.open("s1");
    // The ledger is the same, and its slots are taken.
    let mut third = acceptor.client("s1");
    assert!(third.ask("reserve 700")["Err"].as_str().unwrap().contains("700 of 1000 bytes are reserved"));
    assert_eq!(third.ask("who")["first"]["slot"], json!(2));
    // And the process comes back to its worker.
    let mut lane = acceptor.tcp();
    lane.write_all(&resumed(&mine).encode()).unwrap();
    assert_eq!(client.ask("lane"), json!({"connection": "tcp", "trust": null}));

    drop(client);
    let ended =
        std::iter::repeat_with(|| agent.event()).find(|event| event["event"] == "workerEnded").unwrap();
    assert_eq!((&ended["worker"]["pid"], &ended["worker"]["exit"]), (&json!(pid), &json!({"code": 0})));
    assert!(ended["worker"]["report"]["calls"].as_u64().unwrap() >= 6);
    assert_eq!(third.ask("reserve 700"), json!({"Ok": null}), "its memory is free");
    drop((other, third));
    wait_for("nobody is left", || agent.living().is_empty());
    agent.close("s1");
    let ended = agent.ask(json!({"op": "status"}))["ended"].clone();
    let connections: Vec<_> =
        ended.as_array().unwrap().iter().map(|each| each["worker"]["connectionId"].clone()).collect();
    assert_eq!(connections.len(), 3);
    agent.ask(json!({"op": "forget", "workers": connections}));
    assert_eq!(agent.ask(json!({"op": "status"}))["ended"], json!([]));
    let files = std::fs::read_dir(acceptor.folder.join("workers")).unwrap().count();
    assert_eq!(files, 0, "nor any file");
}

#[test]
fn what_ended_without_an_acceptor_is_told_by_the_next_ones() {
    let mut acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let (mut leaving, mut killed) = (acceptor.client("s1"), acceptor.client("s1"));
    let mut living = acceptor.client("s1");
    let pids = [leaving.worker_pid(), killed.worker_pid(), living.worker_pid()];
    leaving.ask("reserve 300");
    killed.ask("reserve 300");
    killed.ask("report 9");

    acceptor.kill();
    drop(leaving);
    signal(pids[1], Signal::KILL);
    wait_for("both have ended", || pids[..2].iter().all(|pid| is_gone(*pid)));
    acceptor.restart();

    let mut agent = acceptor.agent();
    wait_for("all three are known", || workers(&mut agent).len() == 3);
    agent.open("s1");
    assert_eq!(living.ask("reserve 1000"), json!({"Ok": null}), "the memory of the dead is free");
    let of = |pid: i32, all: &[Value]| all.iter().find(|worker| worker["pid"] == json!(pid)).unwrap().clone();
    let all = workers(&mut agent);
    let (left, dead) = (of(pids[0], &all), of(pids[1], &all));
    assert_eq!((&left["exit"], &left["report"]["calls"]), (&json!({"code": 0}), &json!(2)));
    assert_eq!((dead.get("exit"), &dead["report"]["calls"]), (None, &json!(9)), "nobody knows how it ended");
    assert!(left["endedAt"].is_string() && dead["endedAt"].is_string() && dead["clientPid"] == json!(4242));
    // Nobody may have listened, so a third acceptor says the same, also of those whose end the second one has seen.
    living.say("exit 5");
    wait_for("it has ended", || agent.living().is_empty());
    let exited = of(pids[2], &workers(&mut agent));
    acceptor.replace();
    let mut agent = acceptor.agent();
    let all = workers(&mut agent);
    assert_eq!([left, dead, exited], [0, 1, 2].map(|place| of(pids[place], &all)));
}

/// Nobody reaps orphans in a container without an init process.
fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z ")) || !is_alive(pid)
}

#[test]
fn connections_for_sessions_that_a_new_acceptor_does_not_know_yet_wait_for_the_agent() {
    let mut acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    agent.open("s2");
    let mine = preface("s1");
    let mut client = Client::with(acceptor.tcp(), &mine);
    client.ask("who");
    acceptor.replace();

    // One whose session has a worker, one whose session had none, and one that comes back.
    let (mut second, mut first_of_other) = (acceptor.client("s1"), acceptor.client("s2"));
    let mut lane = acceptor.unix();
    lane.write_all(&resumed(&mine).encode()).unwrap();
    second.say("who");
    first_of_other.say("who");
    std::thread::sleep(Duration::from_millis(200));
    let mut agent = acceptor.agent();
    wait_for("the old one is known", || workers(&mut agent).len() == 1);
    agent.open("s1");
    agent.open("s2");

    assert!(second.hear().is_object());
    assert!(first_of_other.hear().is_object());
    assert_eq!(client.ask("lane")["connection"], json!("unix"));
    // Nobody opens this one.
    let refused = read_refusal({
        let mut stream = acceptor.tcp();
        stream.write_all(&preface("s3").encode()).unwrap();
        stream
    });
    assert_eq!(refused.code, 802);
    assert!(
        refused.reason.contains("has just started and does not know session \"s3\" yet"),
        "{}",
        refused.reason
    );
}

#[test]
fn a_session_that_was_taken_over_is_opened_with_the_same_gpus_or_closed() {
    let mut acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mut client = acceptor.client("s1");
    client.ask("ignore-term");
    let pid = client.worker_pid();
    acceptor.replace();
    let mut agent = acceptor.agent();
    let mut other = session_of("s1");
    other["gpus"][0]["uuid"] = json!("GPU-9");
    let answer = agent.ask(json!({"op": "openSession", "session": other}));
    assert_eq!(answer["error"]["code"], json!("sessionConflict"));

    // At once, whether the worker has said who it is or not.
    let closed = agent.close("s1");

    assert_eq!(closed["workers"][0]["pid"], json!(pid));
    assert!(closed["workers"][0].get("exit").is_none(), "it was killed, and is no child");
    assert!(is_gone(pid));
}

#[test]
fn a_worker_that_has_said_nothing_is_taken_over_too() {
    let mut acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mut client = Client::with(acceptor.tcp(), &silent_preface());
    let pid = client.worker_pid();
    acceptor.replace();
    let mut agent = acceptor.agent();
    wait_for("it is known", || workers(&mut agent).len() == 1);
    let worker = workers(&mut agent)[0].clone();
    assert_eq!((&worker["pid"], &worker["clientPid"]), (&json!(pid), &json!(null)));
    agent.ask(json!({"op": "subscribe"}));
    signal(pid, Signal::KILL);
    let event = agent.event();
    assert_eq!((&event["event"], &event["worker"]["pid"]), (&json!("workerEnded"), &json!(pid)));
}

#[test]
fn term_leaves_workers_alone_when_they_are_to_be_kept_and_int_does_not() {
    let mut acceptor = Acceptor::start(&["--keep-workers"]);
    acceptor.agent().open("s1");
    let mut client = acceptor.client("s1");
    let pid = client.worker_pid();
    signal(acceptor.pid(), Signal::TERM);
    assert_eq!(acceptor.wait().code(), Some(0));
    assert!(client.ask("who").is_object());

    acceptor.restart();
    let mut agent = acceptor.agent();
    wait_for("it is known", || workers(&mut agent).len() == 1);
    agent.open("s1");
    assert!(acceptor.client("s1").ask("who").is_object());
    signal(acceptor.pid(), Signal::INT);
    assert_eq!(acceptor.wait().code(), Some(0));
    assert!(is_gone(pid));
    // Nobody has asked for its last words: the next acceptor has them.
    acceptor.restart();
    let mut agent = acceptor.agent();
    wait_for("it is known", || workers(&mut agent).iter().any(|worker| worker["pid"] == json!(pid)));
}

#[test]
fn on_sockets_that_others_keep_nobody_is_turned_away_while_there_is_no_acceptor() {
    let mut acceptor = Acceptor::start_on_kept_sockets();
    acceptor.agent().open("s1");
    let mut client = acceptor.client("s1");
    let pid = client.worker_pid();
    let port = acceptor.port;
    acceptor.kill();

    let (mut over_tcp, mut over_unix) = (acceptor.client("s1"), Client::accepted(acceptor.unix(), "s1"));
    let mut agent = acceptor.agent();
    over_tcp.say("who");
    over_unix.say("who");
    acceptor.start_next();
    agent.open("s1");

    assert!(over_tcp.hear().is_object());
    assert!(over_unix.hear().is_object());
    assert_eq!(client.worker_pid(), pid);
    assert_eq!(agent.ask(json!({"op": "hello"}))["port"], json!(port));
    // What it was lent it leaves.
    signal(acceptor.pid(), Signal::TERM);
    acceptor.wait();
    assert!(acceptor.control_path().exists() && acceptor.folder.join("data").exists());
}
