//! Starting an acceptor, and speaking to it as an agent and as a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use transport::{Refusal, encode_refusal, routing_token};
use wire::preface::{Preface, Purpose};

use crate::worker::{SILENT, VARIABLE};

/// Long enough for a loaded machine; nothing here waits so long when it works.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SECRET: [u8; 32] = [0xa5; 32];

pub struct Acceptor {
    child: Child,
    pub folder: PathBuf,
    pub port: u16,
    options: Vec<String>,
    /// Listening sockets of this process.
    kept: Vec<OwnedFd>,
}

const PLAIN: &str = "--plain-tcp";
/// Stands where the other one could: it is a default.
const STRICT: &str = "--worker-sandbox=strict";

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("farpool-acceptor-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// This test binary, started again as a worker.
fn test_worker() -> String {
    let binary = std::env::current_exe().unwrap();
    let arguments = "--exact worker::worker_process --nocapture --test-threads=1";
    format!("#!/bin/sh\n{VARIABLE}=1 exec {} {arguments}\n", binary.display())
}

impl Acceptor {
    /// With the test worker.
    pub fn start(options: &[&str]) -> Acceptor {
        Acceptor::start_with_script(&test_worker(), options)
    }

    /// One that lets nobody in over TCP without TLS.
    pub fn start_strict(options: &[&str]) -> Acceptor {
        Acceptor::start_in(new_folder(), &test_worker(), &[STRICT], options)
    }

    /// With a worker that is `script`.
    pub fn start_with_script(script: &str, options: &[&str]) -> Acceptor {
        Acceptor::start_in(new_folder(), script, &[PLAIN], options)
    }

    fn start_in(folder: PathBuf, script: &str, first: &[&str], options: &[&str]) -> Acceptor {
        std::fs::write(folder.join("worker"), script).unwrap();
        std::fs::set_permissions(folder.join("worker"), PermissionsExt::from_mode(0o755)).unwrap();
        let options: Vec<String> = first.iter().chain(options).map(|word| (*word).to_owned()).collect();
        let child = launch(&folder, &options, &[]);
        let mut acceptor = Acceptor { child, folder, port: 0, options, kept: Vec::new() };
        acceptor.wait_until_it_listens();
        acceptor
    }

    /// With listening sockets that this process keeps.
    pub fn start_on_kept_sockets() -> Acceptor {
        let folder = new_folder();
        let script = test_worker();
        std::fs::write(folder.join("worker"), script).unwrap();
        std::fs::set_permissions(folder.join("worker"), PermissionsExt::from_mode(0o755)).unwrap();
        let kept: Vec<OwnedFd> = vec![
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            UnixListener::bind(folder.join("data")).unwrap().into(),
            UnixListener::bind(folder.join("control")).unwrap().into(),
        ];
        let options = vec![PLAIN.to_owned()];
        let child = launch(&folder, &options, &kept);
        let mut acceptor = Acceptor { child, folder, port: 0, options, kept };
        acceptor.wait_until_it_listens();
        acceptor
    }

    /// Another acceptor on the same sockets.
    pub fn start_again(&self) -> Child {
        launch(&self.folder, &self.options, &[])
    }

    /// Starts a new process in place of the one that was killed.
    pub fn restart(&mut self) {
        self.start_next();
        self.wait_until_it_listens();
    }

    /// The same without waiting for it.
    pub fn start_next(&mut self) {
        self.child = launch(&self.folder, &self.options, &self.kept);
    }

    /// Kills it, and starts a new process in its place.
    pub fn replace(&mut self) {
        self.kill();
        self.restart();
    }

    pub fn kill(&mut self) {
        signal(self.pid(), Signal::KILL);
        self.wait();
    }

    fn wait_until_it_listens(&mut self) {
        let path = self.control_path();
        wait_for("the acceptor listens", || UnixStream::connect(&path).is_ok());
        let hello = self.agent().ask(json!({"op": "hello"}));
        self.port = u16::try_from(hello["port"].as_u64().unwrap()).unwrap();
    }

    pub fn control_path(&self) -> PathBuf {
        self.folder.join("control")
    }

    pub fn agent(&self) -> Agent {
        Agent::new(UnixStream::connect(self.control_path()).unwrap())
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn unix(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.join("data")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client of `session` whose worker answers.
    pub fn client(&self, session: &str) -> Client<TcpStream> {
        Client::accepted(self.tcp(), session)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the acceptor ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            signal(self.pid(), Signal::TERM);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the acceptor:\n{}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn launch(folder: &Path, options: &[String], kept: &[OwnedFd]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let path = |name: &str| folder.join(name).into_os_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_farpool-acceptor"));
    // Whoever starts the acceptor may leave descriptors open; they must not reach workers.
    // High copies, as 3 to 5 may be in use here; `dup2` then clears close-on-exec.
    let copies: Vec<OwnedFd> =
        kept.iter().map(|socket| rustix::io::fcntl_dupfd_cloexec(socket, 100).unwrap()).collect();
    let numbers: Vec<i32> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    if !kept.is_empty() {
        command.env("FARPOOL_LISTEN_FDS", "data-tcp:data-unix:control");
    }
    // SAFETY: `dup2` may be called between fork and exec; nothing else uses number 50 here, and what 3 to 5 are in the
    // child is closed on exec anyway.
    unsafe {
        command.pre_exec(move || {
            let passed = (3..).zip(&numbers).map(|(place, number)| (*number, place));
            for (number, place) in passed.chain([(2, 50)]) {
                if libc::dup2(number, place) != place {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command
        .args(["--control".into(), path("control"), "--unix".into(), path("data")])
        .args(["--worker".into(), path("worker"), "--driver".into(), "/driver/libcuda.so.1".into()])
        .args(["--listen", "127.0.0.1:0", "--server-name", "test-server"])
        .args(options)
        .env("LD_PRELOAD_SECRET", "must not reach a worker")
        .env("CUDA_CACHE_PATH", "/cache")
        .env("CUDA_VISIBLE_DEVICES", "must be replaced")
        .env("LD_LIBRARY_PATH", "must be replaced")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

pub struct Agent {
    pub stream: UnixStream,
    lines: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Agent {
    fn new(stream: UnixStream) -> Agent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        Agent { stream, lines, events: Vec::new() }
    }

    pub fn send(&mut self, request: &Value) {
        writeln!(self.stream, "{request}").unwrap();
    }

    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the control connection ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Whether the acceptor closed the connection (after the lines that were read).
    pub fn is_closed(&mut self) -> bool {
        self.lines.read_line(&mut String::new()).is_ok_and(|count| count == 0)
    }

    /// Sends a request and reads its answer; events that come first are kept.
    pub fn ask(&mut self, mut request: Value) -> Value {
        request["id"] = json!("q");
        self.send(&request);
        loop {
            let line = self.line();
            if line["id"] == json!("q") {
                return line;
            }
            self.events.push(line);
        }
    }

    pub fn event(&mut self) -> Value {
        if self.events.is_empty() { self.line() } else { self.events.remove(0) }
    }

    pub fn open(&mut self, session: &str) {
        let answer = self.ask(json!({"op": "openSession", "session": session_of(session)}));
        assert_eq!(answer["ok"], json!(true), "{answer}");
    }

    pub fn close(&mut self, session: &str) -> Value {
        self.ask(json!({"op": "closeSession", "sessionId": session, "reason": "the test says so"}))
    }

    /// The workers of the only session, living ones only.
    pub fn living(&mut self) -> Vec<Value> {
        let status = self.ask(json!({"op": "status"}));
        let workers = status["sessions"][0]["workers"].as_array().cloned().unwrap_or_default();
        workers.into_iter().filter(|worker| worker.get("endedAt").is_none()).collect()
    }
}

pub fn session_of(id: &str) -> Value {
    json!({
        "id": id,
        "secret": "a5".repeat(32),
        "gpus": [{"uuid": "GPU-1", "memoryLimitBytes": 1000}, {"uuid": "GPU-2", "memoryLimitBytes": null}],
    })
}

/// Of a client process of its own.
pub fn preface(session: &str) -> Preface {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let mut id = [0x1c; 16];
    id[..4].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    preface_of(session, id, Purpose::default())
}

/// Of the client process `id`.
pub fn preface_of(session: &str, id: [u8; 16], purpose: Purpose) -> Preface {
    Preface { session_id: session.into(), connection_id: id, token: routing_token(&SECRET, &id), purpose }
}

/// Of a client process whose worker does not say that it has begun.
pub fn silent_preface() -> Preface {
    let Preface { session_id, mut connection_id, .. } = preface("s1");
    connection_id[15] = SILENT;
    preface_of(&session_id, connection_id, Purpose::default())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From another address of this machine.
pub fn tcp_from(address: [u8; 4], port: u16) -> TcpStream {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((address, 0))).unwrap();
    rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that was accepted: lines to its worker and back.
pub struct Client<S: Read + Write> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Client<S> {
    pub fn accepted(stream: S, session: &str) -> Client<S> {
        Client::with(stream, &preface(session))
    }

    pub fn with(mut stream: S, preface: &Preface) -> Client<S> {
        stream.write_all(&preface.encode()).unwrap();
        Client::of(stream)
    }

    /// A client whose preface was sent.
    pub fn of(stream: S) -> Client<S> {
        Client { stream: BufReader::new(stream) }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stream.get_mut(), "{line}").unwrap();
    }

    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no answer but {line:?}"))
    }

    pub fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        self.hear()
    }

    pub fn worker_pid(&mut self) -> i32 {
        i32::try_from(self.ask("who")["pid"].as_u64().unwrap()).unwrap()
    }
}

/// Reads the one frame of a refused connection, and its end.
pub fn read_refusal(mut stream: impl Read) -> Refusal {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (_, words) = bytes.split_first_chunk::<8>().expect("a frame");
    let refusal = Refusal::decode(words).unwrap();
    assert_eq!(bytes, encode_refusal(&refusal));
    refusal
}

pub fn signal(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub fn is_alive(pid: i32) -> bool {
    rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
