//! The test worker: speaks the worker's side of the acceptor's interface, and does what its client tells it,
//! one word-separated line at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use ledger::Ledger;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags,
};
use serde_json::{Value, json};

/// Set by the script that starts the binary as a worker.
pub const VARIABLE: &str = "FARPOOL_TEST_WORKER";
/// Last byte of the connection id of a client that does not say hello.
pub const SILENT: u8 = 0x51;

/// Not a test by itself: what a worker process runs.
#[test]
fn worker_process() {
    if std::env::var_os(VARIABLE).is_some() {
        run();
        std::process::exit(0);
    }
}

/// The acceptor that there is now.
type Acceptor = Arc<Mutex<Arc<OwnedFd>>>;

fn run() {
    // SAFETY: the acceptor put the control socket, the ledger, the socket for its successor and the account there;
    // nothing else uses the numbers.
    let [control, ledger, succession, account] =
        [3, 4, 5, 6].map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    let (first, client) = receive(&control);
    let slot = u32::try_from(first["slot"].as_u64().unwrap()).unwrap();
    let slot = Ledger::open(&ledger).unwrap().slot(slot).unwrap();
    let acceptor: Acceptor = Arc::new(Mutex::new(Arc::new(control)));
    let account =
        Account { file: File::from(account), entries: Mutex::new(json!({"pid": std::process::id()})) };
    let account = Arc::new(account);
    account.set("pid", &json!(std::process::id()));
    let tell = |message: &[u8]| {
        let socket = Arc::clone(&acceptor.lock().unwrap());
        let _ = rustix::net::send(&*socket, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    };
    succeed(succession, ledger, Arc::clone(&acceptor), Arc::clone(&account));
    if !first["connectionId"].as_str().unwrap().ends_with("51") {
        for (name, value) in
            [("clientPid", json!(4242)), ("program", json!("test")), ("sandbox", json!(["seccomp"]))]
        {
            account.set(name, &value);
        }
        let started =
            json!({"type": "started", "clientPid": 4242, "program": "test", "sandbox": ["seccomp"]});
        tell(started.to_string().as_bytes());
    }
    let uuid = first["gpus"][0]["uuid"].clone();
    // A TLS client's first bytes are told as they are.
    if first["connection"] == "tls" {
        let mut client = std::net::TcpStream::from(client);
        let mut bytes = vec![0; 5];
        std::io::Read::read_exact(&mut client, &mut bytes).unwrap();
        bytes.resize(5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]])), 0);
        std::io::Read::read_exact(&mut client, &mut bytes[5..]).unwrap();
        writeln!(&client, "{}", json!({"hello": bytes, "first": first})).unwrap();
        return;
    }
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
                let socket = Arc::clone(&acceptor.lock().unwrap());
                let (message, lane) = receive(&socket);
                writeln!(UnixStream::from(lane), "{}", std::process::id()).unwrap();
                message
            }
            "report" => {
                let report = report(number, &uuid);
                account.set("report", &report);
                tell(report.to_string().as_bytes());
                json!(true)
            }
            "nonsense" => {
                tell(b"\xff nonsense");
                tell(&vec![b'{'; 100 << 10]);
                tell(b"{\"type\":\"adopted\"}");
                json!(true)
            }
            "exit" => std::process::exit(i32::try_from(number).unwrap()),
            _ => json!(null),
        };
        writeln!(&client, "{answer}").unwrap();
    }
    let report = report(calls, &uuid);
    account.set("report", &report);
    account.set("exit", &json!(0));
    tell(report.to_string().as_bytes());
}

fn report(calls: u64, uuid: &Value) -> Value {
    json!({"type": "report", "calls": calls, "perGpu": [{"uuid": uuid, "memoryUsedBytes": 7}]})
}

struct Account {
    file: File,
    entries: Mutex<Value>,
}

impl Account {
    fn set(&self, name: &str, value: &Value) {
        let mut entries = self.entries.lock().unwrap();
        entries[name] = value.clone();
        self.file.write_all_at(format!("{entries}\n").as_bytes(), 0).unwrap();
    }
}

/// Waits for other acceptors.
fn succeed(socket: OwnedFd, ledger: OwnedFd, acceptor: Acceptor, account: Arc<Account>) {
    std::thread::spawn(move || {
        loop {
            let mut fds = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
            if rustix::event::poll(&mut fds, None).is_err() {
                continue;
            }
            let new = rustix::net::accept_with(&socket, SocketFlags::CLOEXEC).unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [ledger.as_fd()];
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let mut message = account.entries.lock().unwrap().clone();
            message["type"] = json!("adopted");
            let message = message.to_string();
            let slices = [IoSlice::new(message.as_bytes())];
            rustix::net::sendmsg(&new, &slices, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
            *acceptor.lock().unwrap() = Arc::new(new);
        }
    });
}

fn receive(control: &OwnedFd) -> (Value, OwnedFd) {
    let mut bytes = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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
