//! A worker: how it is started, spoken to, and how it ends.

use std::fs::File;
use std::io::{IoSlice, Read, Seek as _, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ledger::Ledger;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use serde_json::json;
use wire::Header;
use wire::record::HEADER_BYTES;

use crate::case::Case;

/// How long a worker may take to read all that it is sent: one whose streams wait for the client does not.
const TO_READ: Duration = Duration::from_secs(3);

/// How long a worker may live after its client has closed.
const TO_END: Duration = Duration::from_secs(10);

/// Memory with which a worker is killed at once.
const MEMORY_TO_KILL: u64 = 2 << 30;

/// Bytes of each GPU.
const GPU_MEMORY: u64 = 192 << 20;

/// What is needed to start workers.
pub struct Programs {
    worker: PathBuf,
    driver: PathBuf,
    uuid: String,
    state: PathBuf,
}

/// How a worker has ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` for one that had to be killed.
    status: Option<ExitStatus>,
    /// What it logged.
    pub log: String,
    /// Most memory that it had, in bytes.
    memory: u64,
    /// How much it may have had.
    most_memory: u64,
    /// Records that left.
    pub records_sent: u64,
    /// Records that came.
    pub records_received: u64,
    /// What it answered that is no record.
    nonsense: Option<String>,
}

impl Ended {
    /// What is wrong with it.
    pub fn finding(&self) -> Option<String> {
        let panicked = self.log.lines().find(|line| line.contains("panicked at") || line.contains("fatal"));
        if let Some(line) = panicked {
            return Some(format!("the worker has panicked: {line}"));
        }
        match self.status {
            None => return Some(format!("the worker lived {} s after its client", TO_END.as_secs())),
            Some(status) => {
                if let Some(signal) = status.signal() {
                    return Some(format!("signal {signal} ended the worker"));
                }
            }
        }
        if self.memory > self.most_memory {
            return Some(format!("the worker had {} MiB of memory", self.memory >> 20));
        }
        self.nonsense.clone()
    }

    /// A few words on how it ended: the last error of its log without numbers.
    pub fn kind(&self) -> String {
        let code = match self.status.and_then(|status| status.code()) {
            Some(0) => return "in order".into(),
            Some(code) => format!("code {code}"),
            None => "killed".into(),
        };
        let error = self.log.lines().rev().find_map(|line| line.split_once("ERROR ")).map_or("", |it| it.1);
        let words = error.split_whitespace().filter(|word| !word.contains(|one: char| one.is_ascii_digit()));
        let words: Vec<&str> =
            words.filter(|word| !word.starts_with("cu") && !word.starts_with("farpool")).collect();
        format!("{code}: {}", words.join(" "))
    }
}

impl Programs {
    /// In the folder where the build puts programs.
    pub fn find(folder: &Path) -> Result<Programs, String> {
        let (worker, driver) = (folder.join("bin/farpool-worker"), folder.join("lib/simgpu/libcuda.so.1"));
        let state = std::env::temp_dir().join(format!("farpool-fuzz-state-{}", std::process::id()));
        keep_low_descriptors().map_err(|error| format!("no descriptors: {error}"))?;
        let output = Command::new(&worker)
            .args(["inventory", "--driver"])
            .arg(&driver)
            .output()
            .map_err(|error| format!("{} does not start: {error}", worker.display()))?;
        let inventory: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("no inventory: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let uuid = inventory["gpus"][0]["uuid"].as_str().ok_or("the inventory names no GPU")?.to_owned();
        let driver = driver.canonicalize().map_err(|error| format!("{}: {error}", driver.display()))?;
        Ok(Programs { worker, driver, uuid, state })
    }
}

/// Numbers 3 to 6 are the worker's; nothing of this process may have them.
fn keep_low_descriptors() -> std::io::Result<()> {
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() > 6 {
            return Ok(());
        }
        let _ = file.into_raw_fd();
    }
}

/// Runs one case to its end.
pub fn run(programs: &Programs, case: &Case) -> Result<Ended, String> {
    attempt(programs, case).map_err(|error| format!("a case cannot be run: {error}"))
}

fn attempt(programs: &Programs, case: &Case) -> anyhow::Result<Ended> {
    let (ledger, descriptor) = Ledger::create(1, 4)?;
    let stream =
        || rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (control, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (client, served) = stream()?;
    let assignment = json!({
        "sessionId": "fuzz",
        "connectionId": "00112233445566778899aabbccddeeff",
        "driver": programs.driver,
        "gpus": [{"uuid": programs.uuid, "memoryLimitBytes": GPU_MEMORY}],
        "slot": 0,
        "serverName": "fuzz",
        "sandbox": "strict",
        "connection": "unix",
        "graceSeconds": 1,
        "trust": null,
    });
    send(&control, assignment.to_string().as_bytes(), served.as_fd())?;
    drop(served);
    // Before the worker is there, which does not wait long for its client's first words.
    let control_bytes = [case.opening.as_slice(), &case.control].concat();
    let mut log = File::from(rustix::fs::memfd_create("log", MemfdFlags::CLOEXEC)?);
    let (succession, account) = (successor()?, rustix::fs::memfd_create("account", MemfdFlags::CLOEXEC)?);
    let mut child = start(programs, case, [&theirs, &descriptor, &succession, &account], &log)?;
    drop(theirs);
    let mut watch = Watch { pid: child.id(), memory: 0 };

    let mut lanes = vec![Conversation::new(client, control_bytes, case.reads)];
    if let Some(bulk) = &case.bulk {
        let (client, served) = stream()?;
        send(&control, br#"{"connection":"unix","trust":null}"#, served.as_fd())?;
        let mut opening = case.opening.clone();
        // The flags of an opening: this is the bulk lane.
        if let Some(flags) = opening.get_mut(12) {
            *flags |= 1;
        }
        lanes.push(Conversation::new(client, [opening.as_slice(), bulk].concat(), case.reads));
    }
    converse(&mut lanes, &mut watch, case)?;
    let nonsense = lanes[0].nonsense();
    let records_received = lanes[0].records_received;
    drop(lanes);
    let status = end(&mut child, &mut watch)?;
    drop((control, ledger));
    let mut text = Vec::new();
    log.seek(SeekFrom::Start(0))?;
    log.take(1 << 20).read_to_end(&mut text)?;
    let log = String::from_utf8_lossy(&text).into_owned();
    Ok(Ended {
        status,
        log,
        memory: watch.memory,
        most_memory: case.most_memory,
        records_sent: case.records,
        records_received,
        nonsense,
    })
}

/// The socket at which a next acceptor would come. Workers that know of none leave it and the account alone.
fn successor() -> anyhow::Result<OwnedFd> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("farpool-fuzz-{}-{number}", std::process::id());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}

fn start(programs: &Programs, case: &Case, inherited: [&OwnedFd; 4], log: &File) -> anyhow::Result<Child> {
    let mut command = Command::new(&programs.worker);
    command
        .arg("serve")
        .env_clear()
        .env("CUDA_VISIBLE_DEVICES", &programs.uuid)
        .env("FARPOOL_SIMGPU_MEMORY", GPU_MEMORY.to_string())
        .env("FARPOOL_SIMGPU_CONTEXT_MEMORY", "1MiB")
        .env("FARPOOL_SIMGPU_STATE", &programs.state)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log.try_clone()?));
    if !case.executes {
        command.env("FARPOOL_SIMGPU_NULL", "1");
    }
    let inherited = inherited.map(AsRawFd::as_raw_fd);
    let place = move || {
        for (ours, number) in inherited.into_iter().zip(3..) {
            // SAFETY: `dup2` takes numbers and is async-signal-safe. Nothing of this process has the numbers 3 to 6.
            if unsafe { libc::dup2(ours, number) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and only calls `dup2`; all descriptors are open until after the exec.
    unsafe { command.pre_exec(place) };
    Ok(command.spawn()?)
}

fn send(socket: &OwnedFd, message: &[u8], descriptor: BorrowedFd<'_>) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    anyhow::ensure!(
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)),
        "no room for a descriptor"
    );
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL);
    // A worker that has ended already takes no more.
    match sent {
        Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One lane, as the client has it.
struct Conversation {
    socket: OwnedFd,
    bytes: Vec<u8>,
    sent: usize,
    reads: bool,
    is_over: bool,
    received: Vec<u8>,
    has_opened: bool,
    records_received: u64,
    nonsense: Option<String>,
}

impl Conversation {
    fn new(socket: OwnedFd, bytes: Vec<u8>, reads: bool) -> Conversation {
        Conversation {
            socket,
            bytes,
            sent: 0,
            reads,
            is_over: false,
            received: Vec::new(),
            has_opened: false,
            records_received: 0,
            nonsense: None,
        }
    }

    fn wanted(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.reads || !self.has_opened);
        flags.set(PollFlags::OUT, self.sent < self.bytes.len());
        flags
    }

    fn go_on(&mut self) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if self.sent < self.bytes.len() {
            match rustix::net::send(&self.socket, &self.bytes[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => self.sent = self.bytes.len(),
            }
        }
        let mut room = [0; 16 << 10];
        while (self.reads || !self.has_opened) && !self.is_over {
            match rustix::net::recv(&self.socket, &mut room[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.is_over = true,
                Ok((count, _)) => {
                    self.received.extend_from_slice(&room[..count]);
                    self.take_apart();
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Err(_) => self.is_over = true,
            }
        }
    }

    /// Looks whether the worker answers in records.
    fn take_apart(&mut self) {
        let mut at = 0;
        loop {
            let rest = &self.received[at..];
            if !self.has_opened {
                let Some(head) = rest.first_chunk::<8>() else { break };
                let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
                if rest.len() < 8 + length {
                    break;
                }
                self.has_opened = true;
                at += 8 + length;
                continue;
            }
            let Some(head) = rest.first_chunk::<HEADER_BYTES>() else { break };
            match Header::decode(head) {
                Ok(header) if rest.len() >= HEADER_BYTES + header.length as usize => {
                    at += HEADER_BYTES + header.length as usize;
                    self.records_received += 1;
                }
                Ok(_) => break,
                Err(error) => {
                    self.nonsense.get_or_insert(format!("the worker's answer is malformed: {error}"));
                    at = self.received.len();
                    break;
                }
            }
        }
        self.received.drain(..at);
    }

    fn nonsense(&self) -> Option<String> {
        self.nonsense.clone()
    }
}

/// Sends everything, and hears what the worker says, until the client has had enough.
fn converse(lanes: &mut [Conversation], watch: &mut Watch, case: &Case) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut all_sent: Option<Instant> = None;
    loop {
        lanes.iter_mut().for_each(Conversation::go_on);
        watch.look();
        if lanes[0].is_over || watch.memory > case.most_memory {
            return Ok(());
        }
        // A worker that is not there yet would only see the end.
        if lanes[0].has_opened && lanes.iter().all(|lane| lane.sent == lane.bytes.len()) {
            let since = *all_sent.get_or_insert_with(Instant::now);
            if since.elapsed() >= Duration::from_millis(case.lingers_ms) {
                return Ok(());
            }
        }
        if started.elapsed() >= TO_READ {
            return Ok(());
        }
        let mut descriptors: Vec<PollFd<'_>> =
            lanes.iter().map(|lane| PollFd::new(&lane.socket, lane.wanted())).collect();
        match poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the worker's end; `None` when it had to be killed.
fn end(child: &mut Child, watch: &mut Watch) -> anyhow::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        watch.look();
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let is_late = started.elapsed() >= TO_END;
        if is_late || watch.memory > MEMORY_TO_KILL {
            child.kill()?;
            let status = child.wait()?;
            return Ok((!is_late).then_some(status));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Looks after a worker's memory.
struct Watch {
    pid: u32,
    memory: u64,
}

impl Watch {
    fn look(&mut self) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else { return };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak
            .and_then(|line| line.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok());
        self.memory = self.memory.max(kib.unwrap_or(0) << 10);
    }
}
