//! How workers, sessions and the acceptor end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Acceptor, is_alive, session_of, signal, wait_for};

#[test]
fn a_killed_worker_is_reported_at_once_and_its_memory_is_free() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.ask(json!({"op": "subscribe"}));
    agent.open("s1");
    let (mut first, mut second) = (acceptor.client("s1"), acceptor.client("s1"));
    assert_eq!(first.ask("reserve 700"), json!({"Ok": null}));
    assert!(second.ask("reserve 700")["Err"].as_str().unwrap().contains("700 of 1000 bytes are reserved"));
    let pid = first.worker_pid();
    assert_eq!(agent.event()["event"], "workerStarted");
    assert_eq!(agent.event()["event"], "workerStarted");

    let killed = Instant::now();
    signal(pid, Signal::KILL);
    let event = agent.event();
    let noticed = killed.elapsed();

    assert_eq!((&event["event"], &event["sessionId"]), (&json!("workerEnded"), &json!("s1")));
    assert_eq!((&event["worker"]["pid"], &event["worker"]["exit"]), (&json!(pid), &json!({"signal": 9})));
    assert!(event["worker"]["endedAt"].is_string());
    assert!(noticed < Duration::from_millis(100), "{noticed:?}");
    assert_eq!(second.ask("used"), json!(0));
    assert_eq!(second.ask("reserve 700"), json!({"Ok": null}));
    // The slot is free again, too.
    assert_eq!(acceptor.client("s1").ask("who")["first"]["slot"], json!(0));
}

#[test]
fn the_last_report_and_the_exit_code_of_a_worker_are_kept() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let mut client = acceptor.client("s1");
    client.ask("who");
    client.ask("nonsense");
    drop(client);
    acceptor.client("s1").say("exit 3");
    wait_for("both have ended", || {
        let status = agent.ask(json!({"op": "status"}));
        let workers = status["sessions"][0]["workers"].as_array().unwrap();
        workers.len() == 2 && workers.iter().all(|worker| worker.get("endedAt").is_some())
    });

    let closed = agent.close("s1");

    let workers = closed["workers"].as_array().unwrap();
    let with_exit = |exit| workers.iter().find(|worker| worker["exit"] == exit).expect("such an exit");
    let report = &with_exit(json!({"code": 0}))["report"];
    assert_eq!((&report["calls"], &report["roundTrips"]), (&json!(2), &json!(0)));
    assert_eq!(report["perGpu"], json!([{"uuid": "GPU-1", "memoryUsedBytes": 7}]));
    assert!(with_exit(json!({"code": 3})).get("report").is_none());
    assert_eq!(acceptor.log().matches("worker sends nonsense").count(), 1);
    assert_eq!(agent.close("s1")["error"]["code"], "unknownSession");
}

#[test]
fn closing_kills_workers_that_ignore_term_after_a_second() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let (mut stubborn, mut polite) = (acceptor.client("s1"), acceptor.client("s1"));
    stubborn.ask("ignore-term");
    let pids = [stubborn.worker_pid(), polite.worker_pid()];

    let start = Instant::now();
    agent.send(&json!({"id": 1, "op": "closeSession", "sessionId": "s1", "reason": "over"}));
    agent.send(&json!({"id": 2, "op": "openSession", "session": session_of("s1")}));
    agent.send(&json!({"id": 3, "op": "closeSession", "sessionId": "s1", "reason": "over"}));
    let (refused, first, second) = (agent.line(), agent.line(), agent.line());

    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!("closing")));
    assert!(start.elapsed() >= Duration::from_millis(1000) && start.elapsed() < Duration::from_secs(3));
    assert_eq!((&first["id"], &second["id"]), (&json!(1), &json!(3)));
    assert_eq!(first["workers"], second["workers"]);
    let exits: Vec<_> = first["workers"].as_array().unwrap().iter().map(|worker| &worker["exit"]).collect();
    assert_eq!(exits, [&json!({"signal": 15}), &json!({"signal": 9})]);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(agent.ask(json!({"op": "status"}))["sessions"], json!([]));
}

#[test]
fn closing_a_session_without_workers_answers_at_once_and_it_can_be_opened_again() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    assert_eq!(agent.close("s1"), json!({"id": "q", "ok": true, "workers": []}));
    agent.open("s1");
    assert!(acceptor.client("s1").ask("who").is_object());
}

#[test]
fn term_ends_the_workers_removes_the_sockets_and_exits_with_zero() {
    let mut acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let (mut stubborn, mut polite) = (acceptor.client("s1"), acceptor.client("s1"));
    stubborn.ask("ignore-term");
    let pids = [stubborn.worker_pid(), polite.worker_pid()];

    signal(acceptor.pid(), Signal::TERM);
    let status = acceptor.wait();

    assert_eq!(status.code(), Some(0));
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert!(!acceptor.control_path().exists() && !acceptor.folder.join("data").exists());
}

#[test]
fn a_dead_worker_whose_client_never_spoke_is_reported_without_a_program() {
    let acceptor = Acceptor::start_with_script("#!/bin/sh\nexit 5\n", &[]);
    let mut agent = acceptor.agent();
    agent.ask(json!({"op": "subscribe"}));
    agent.open("s1");
    let _client = acceptor.client("s1");
    let event = agent.event();
    assert_eq!((&event["event"], &event["worker"]["exit"]), (&json!("workerEnded"), &json!({"code": 5})));
    assert_eq!(event["worker"]["program"], json!(null));
}

#[test]
fn last_words_of_workers_are_kept_when_their_session_is_over_and_over_a_restart_until_the_manager_has_them() {
    let mut acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let (mut first, mut second) = (acceptor.client("s1"), acceptor.client("s1"));
    first.ask("report 5");
    second.ask("report 6");
    let connections: Vec<_> = agent.living().iter().map(|worker| worker["connectionId"].clone()).collect();
    agent.close("s1");
    let calls_of = |ended: &serde_json::Value| {
        let mut calls: Vec<_> =
            ended.as_array().unwrap().iter().map(|each| each["worker"]["report"]["calls"].as_u64()).collect();
        calls.sort_unstable();
        calls
    };
    let ended = agent.ask(json!({"op": "status"}))["ended"].clone();
    assert_eq!(ended[0]["sessionId"], json!("s1"));
    assert_eq!(calls_of(&ended), [Some(5), Some(6)]);
    drop(agent);

    acceptor.replace();
    let mut agent = acceptor.agent();
    agent.close("s1");
    assert_eq!(calls_of(&agent.ask(json!({"op": "status"}))["ended"]), [Some(5), Some(6)]);

    agent.ask(json!({"op": "forget", "workers": [connections[0]]}));
    assert_eq!(calls_of(&agent.ask(json!({"op": "status"}))["ended"]).len(), 1);
    agent.ask(json!({"op": "forget", "workers": connections}));
    let answer = agent.ask(json!({"op": "forget", "workers": 7}));
    assert_eq!(answer["error"]["code"], "badRequest");
    assert_eq!(agent.ask(json!({"op": "status"}))["ended"], json!([]));
    assert_eq!(std::fs::read_dir(acceptor.folder.join("workers")).unwrap().count(), 0);
}
