//! The test worker: speaks the worker's side of the acceptor's interface, and does what its client tells it,
//! one word-separated line at a time.

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use ledger::Ledger;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use serde_json::{Value, json};

/// Set by the script that starts the binary as a worker.
pub const VARIABLE: &str = "FARPOOL_TEST_WORKER";

/// Not a test by itself: what a worker process runs.
#[test]
fn worker_process() {
    if std::env::var_os(VARIABLE).is_some() {
        run();
        std::process::exit(0);
    }
}

fn run() {
    // SAFETY: the acceptor put the control socket and the ledger there; nothing else uses the numbers.
    let (control, ledger) = unsafe { (OwnedFd::from_raw_fd(3), OwnedFd::from_raw_fd(4)) };
    let (first, client) = receive(&control);
    let slot = u32::try_from(first["slot"].as_u64().unwrap()).unwrap();
    let slot = Ledger::open(&ledger).unwrap().slot(slot).unwrap();
    let tell = |message: &[u8]| {
        let _ = rustix::net::send(&control, message, SendFlags::NOSIGNAL);
    };
    let started = json!({"type": "started", "clientPid": 4242, "program": "test", "sandbox": ["seccomp"]});
    tell(started.to_string().as_bytes());
    // Sockets of both families read and write alike.
    let client = UnixStream::from(client);
    let mut calls = 0;
    for line in BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok) {
        calls += 1;
        let (word, argument) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = argument.parse().unwrap_or(0);
        let answer = match word {
            "who" => {
                let environment: Value = std::env::vars().map(|(name, value)| (name, json!(value))).collect();
                // SAFETY: `getsid` takes and answers numbers only.
                let is_leader = unsafe { libc::getsid(0) } == i32::try_from(std::process::id()).unwrap();
                json!({"pid": std::process::id(), "first": first, "environment": environment, "isLeader": is_leader})
            }
            "reserve" => json!(slot.reserve(0, number, Some(1000)).map_err(|error| error.to_string())),
            "used" => json!(slot.used(0).unwrap()),
            "ignore-term" => {
                // SAFETY: ignoring a signal installs no handler.
                unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
                json!(true)
            }
            "lane" => {
                let (message, lane) = receive(&control);
                writeln!(UnixStream::from(lane), "{}", std::process::id()).unwrap();
                message
            }
            "nonsense" => {
                tell(b"\xff nonsense");
                tell(&vec![b'{'; 100 << 10]);
                json!(true)
            }
            "exit" => std::process::exit(i32::try_from(number).unwrap()),
            _ => json!(null),
        };
        writeln!(&client, "{answer}").unwrap();
    }
    let uuid = &first["gpus"][0]["uuid"];
    let report = json!({"type": "report", "calls": calls, "perGpu": [{"uuid": uuid, "memoryUsedBytes": 7}]});
    tell(report.to_string().as_bytes());
}

fn receive(control: &OwnedFd) -> (Value, OwnedFd) {
    let mut bytes = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        control,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let client = descriptors.next().unwrap().next().unwrap();
    (serde_json::from_slice(&bytes[..received.bytes]).unwrap(), client)
}
