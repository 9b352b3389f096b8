//! Starting an acceptor, and speaking to it as an agent and as a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use wire::handshake::Refused;
use wire::preface::Preface;
use wire::record::HEADER_BYTES;
use wire::{CallId, Header, Reader};

use crate::worker::VARIABLE;

/// Long enough for a loaded machine; nothing here waits so long when it works.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SECRET: [u8; 32] = [0xa5; 32];

pub struct Acceptor {
    child: Child,
    pub folder: PathBuf,
    pub port: u16,
}

impl Acceptor {
    /// With the test worker.
    pub fn start(options: &[&str]) -> Acceptor {
        let binary = std::env::current_exe().unwrap();
        let arguments = "--exact worker::worker_process --nocapture --test-threads=1";
        let script = format!("#!/bin/sh\n{VARIABLE}=1 exec {} {arguments}\n", binary.display());
        Acceptor::start_with_script(&script, options)
    }

    /// With a worker that is `script`.
    pub fn start_with_script(script: &str, options: &[&str]) -> Acceptor {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("farpool-acceptor-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("worker"), script).unwrap();
        std::fs::set_permissions(folder.join("worker"), PermissionsExt::from_mode(0o755)).unwrap();
        let child = launch(&folder, options);
        let mut acceptor = Acceptor { child, folder, port: 0 };
        acceptor.wait_until_it_listens();
        acceptor
    }

    /// Another acceptor on the same sockets.
    pub fn start_again(&self) -> Child {
        launch(&self.folder, &[])
    }

    /// Starts a new process in place of the one that was killed.
    pub fn restart(&mut self) {
        self.child = launch(&self.folder, &[]);
        self.wait_until_it_listens();
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

fn launch(folder: &Path, options: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let path = |name: &str| folder.join(name).into_os_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_farpool-acceptor"));
    // Whoever starts the acceptor may leave descriptors open; they must not reach workers.
    // SAFETY: `dup2` may be called between fork and exec; nothing else uses number 50 here.
    unsafe {
        command.pre_exec(|| match libc::dup2(2, 50) {
            50 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
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

pub fn preface(session: &str) -> Preface {
    Preface { session_id: session.into(), connection_id: [0x1c; 16], secret: SECRET, is_bulk_lane: false }
}

/// A client that was accepted: lines to its worker and back.
pub struct Client<S: Read + Write> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Client<S> {
    pub fn accepted(mut stream: S, session: &str) -> Client<S> {
        stream.write_all(&preface(session).encode()).unwrap();
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

/// Reads the one record of a refused connection, and its end.
pub fn read_refusal(mut stream: impl Read) -> Refused {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (head, payload) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a record");
    let header = Header::decode(head).unwrap();
    assert_eq!((header.call, header.length as usize), (CallId::REFUSED, payload.len()));
    let mut reader = Reader::new(payload);
    let refused = Refused::decode(&mut reader);
    reader.finish(CallId::REFUSED).unwrap();
    refused
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
