//! Connections that are let in, and what their workers get.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use wire::preface::Purpose;

use crate::support::{Acceptor, Client, hex, is_alive, preface, preface_of, wait_for};

#[test]
fn clients_over_tcp_and_unix_get_workers_of_their_own() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");

    let mine = preface("s1");
    let mut first = Client::with(acceptor.tcp(), &mine);
    let mut second = Client::accepted(acceptor.unix(), "s1");
    let (one, two) = (first.ask("who"), second.ask("who"));

    assert_ne!(one["pid"], two["pid"]);
    assert_eq!(one["isLeader"], json!(true));
    let expected = json!({
        "sessionId": "s1", "connectionId": hex(&mine.connection_id), "driver": "/driver/libcuda.so.1", "slot": 0,
        "gpus": [{"uuid": "GPU-1", "memoryLimitBytes": 1000}, {"uuid": "GPU-2", "memoryLimitBytes": null}],
        "serverName": "test-server", "sandbox": "strict", "connection": "tcp", "graceSeconds": 120,
        "trust": null, "orphanSeconds": 300,
    });
    assert_eq!(one["first"], expected);
    assert_eq!(two["first"]["slot"], json!(1));
    let mode = std::fs::metadata(acceptor.folder.join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn bytes_right_behind_the_preface_are_the_workers() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mut bytes = preface("s1").encode().to_vec();
    bytes.extend_from_slice(b"who\n");

    let mut stream = acceptor.tcp();
    // In two parts, of which the first ends inside the preface.
    stream.write_all(&bytes[..50]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    stream.write_all(&bytes[50..]).unwrap();

    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
    assert!(line.contains("\"pid\""), "{line}");
}

#[test]
fn a_second_connection_of_a_process_goes_to_its_worker() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let mut other = Client::accepted(acceptor.tcp(), "s1");
    other.ask("who");
    let mut client = Client::with(acceptor.tcp(), &preface_of("s1", [7; 16], Purpose::default()));
    let pid = client.worker_pid();

    let mut lane = acceptor.unix();
    let purpose = Purpose { is_bulk_lane: true, ..Purpose::default() };
    lane.write_all(&preface_of("s1", [7; 16], purpose).encode()).unwrap();
    let message = client.ask("lane");

    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(lane), &mut line).unwrap();
    assert_eq!(
        (message, line.trim()),
        (json!({"connection": "unix", "trust": null}), pid.to_string().as_str())
    );
    assert_eq!(acceptor.agent().living().len(), 2, "no worker was started for it");
}

#[test]
fn a_worker_sees_only_the_environment_it_should() {
    let acceptor = Acceptor::start(&[]);
    acceptor.agent().open("s1");
    let environment = acceptor.client("s1").ask("who")["environment"].clone();
    let names: BTreeSet<&str> = environment.as_object().unwrap().keys().map(String::as_str).collect();
    // PWD and OLDPWD are the script's shell's.
    let allowed = [
        "PATH",
        "HOME",
        "LANG",
        "RUST_LOG",
        "LD_LIBRARY_PATH",
        "PWD",
        "OLDPWD",
        "_",
        crate::worker::VARIABLE,
    ];
    for name in names {
        let is_allowed =
            allowed.contains(&name) || name.starts_with("CUDA_") || name.starts_with("FARPOOL_SIMGPU_");
        assert!(is_allowed, "{name} reached the worker");
    }
    assert_eq!(environment["CUDA_VISIBLE_DEVICES"], json!("GPU-1,GPU-2"));
    assert_eq!(environment["CUDA_CACHE_PATH"], json!("/cache"));
    assert_eq!(environment["LD_LIBRARY_PATH"], json!("/driver"), "where the driver finds its own parts");
}

#[test]
fn a_worker_inherits_seven_descriptors_and_no_more() {
    // A worker that opens nothing by itself. The data socket waits inside descriptor 3.
    let acceptor = Acceptor::start_with_script("#!/bin/sh\nexec sleep 60\n", &[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let _clients: Vec<_> = (0..3).map(|_| acceptor.client("s1")).collect();
    wait_for("three workers run", || agent.living().len() == 3);

    for worker in agent.living() {
        let pid = worker["pid"].to_string();
        // Until then it is still the shell, which holds its script open.
        wait_for("the worker is sleep", || {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        });
        let look = || {
            let mut descriptors: Vec<(u32, String)> = std::fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .filter_map(|entry| {
                    let path = entry.ok()?.path();
                    let number = path.file_name()?.to_str()?.parse().ok()?;
                    Some((number, std::fs::read_link(path).ok()?.display().to_string()))
                })
                .collect();
            descriptors.sort_unstable();
            descriptors
        };
        // The loader opens libraries for a moment.
        wait_for("it has started", || look().len() <= 7);
        let descriptors = look();
        let numbers: Vec<u32> = descriptors.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6], "{descriptors:?}");
        assert_eq!(descriptors[0].1, "/dev/null");
        assert!(descriptors[3].1.starts_with("socket:"), "{descriptors:?}");
        assert!(descriptors[4].1.contains("farpool-ledger"), "{descriptors:?}");
        assert!(descriptors[5].1.starts_with("socket:"), "{descriptors:?}");
        assert!(descriptors[6].1.ends_with(".account"), "{descriptors:?}");
    }
}

#[test]
fn a_client_that_dies_right_after_its_preface_leaves_nothing_behind() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.ask(json!({"op": "subscribe"}));
    agent.open("s1");
    let mut stream = acceptor.tcp();
    stream.write_all(&preface("s1").encode()).unwrap();
    drop(stream);

    let event =
        std::iter::repeat_with(|| agent.event()).find(|event| event["event"] == "workerEnded").unwrap();

    assert_eq!(event["worker"]["exit"], json!({"code": 0}));
    assert_eq!(agent.living().len(), 0);
    assert!(!is_alive(i32::try_from(event["worker"]["pid"].as_i64().unwrap()).unwrap()));
}

#[test]
fn two_hundred_clients_at_once_all_get_their_workers() {
    let acceptor = Acceptor::start(&[]);
    let mut agent = acceptor.agent();
    agent.open("s1");

    let mut clients: Vec<_> = (0..200).map(|_| acceptor.client("s1")).collect();
    clients.iter_mut().for_each(|client| client.say("who"));
    let slots: BTreeSet<u64> =
        clients.iter_mut().map(|client| client.hear()["first"]["slot"].as_u64().unwrap()).collect();

    assert_eq!(slots.len(), 200);
    assert_eq!(agent.living().len(), 200);
    drop(clients);
    wait_for("all workers have ended", || agent.living().is_empty());
}

#[test]
fn a_connection_that_was_handed_over_costs_the_acceptor_nothing() {
    // A worker that never reads: bytes wait in a socket that the acceptor, too, had open.
    let acceptor = Acceptor::start_with_script("#!/bin/sh\nexec sleep 60\n", &[]);
    let mut agent = acceptor.agent();
    agent.open("s1");
    let mut client = acceptor.client("s1");
    client.say("is anybody there?");
    wait_for("the worker runs", || agent.living().len() == 1);

    let before = ticks(acceptor.pid());
    std::thread::sleep(std::time::Duration::from_secs(1));

    // 100 ticks are a second of a core.
    assert!(ticks(acceptor.pid()) - before < 10, "the acceptor spins");
}

/// User and system time of a process.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
