//! Asks the session's broker for its GPUs, or a client service for those that its programs have or will have
//! (ARCHITECTURE 4.4, 4.15).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nvml::{Machine, Refused};
use place::{MOST_RESTARTS, Owner, RESTART, Wanted};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, send, socket_with, sockopt,
};

use crate::answer;

/// Bytes of an answer that are read at most: thousands of processes.
const ANSWER_LIMIT: usize = 4 << 20;

/// How long the broker may take. It asks the manager when what it knows is old.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// The GPUs of the session of this process, or of the client service that CUDA's programs would ask.
pub fn machine() -> Result<Machine, Refused> {
    let refused = |sentence: &str| Refused { sentence: sentence.to_owned(), is_final: true };
    if let Some(path) = place::session() {
        let text = ask(&path, Owner::Anybody).map_err(|error| {
            refused(&format!(
                "the session's broker at `{path}` does not answer ({error}): the session has probably ended"
            ))
        })?;
        return parse(&path, &text);
    }
    let mut last = refused(
        "this process belongs to no session (FARPOOL_SESSION is not set), and there is no client service, so it has \
         no GPU; hint: start it with `farpool run -n 1 -- PROGRAM`",
    );
    match place::wanted() {
        Err(sentence) => return Err(refused(&sentence)),
        Ok(Wanted::Local) => {
            return Err(refused(
                "FARPOOL=local asks for this machine's own GPU, and no libnvidia-ml.so.1 of its driver is found",
            ));
        }
        Ok(Wanted::Any | Wanted::Pool) => {}
    }
    for path in place::services() {
        // One that is away, or not for this user, leaves the question to the next.
        let answer = ask(&path, Owner::RootOrUs).map_err(|error| Refused {
            sentence: format!(
                "the client service at `{path}` does not answer ({error}); hint: `farpool service status` tells how it is"
            ),
            is_final: false,
        });
        match answer.and_then(|text| parse(&path, &text)) {
            Ok(machine) => return Ok(machine),
            Err(refused) => last = refused,
        }
    }
    Err(last)
}

fn parse(path: &str, text: &str) -> Result<Machine, Refused> {
    answer::parse(text)
        .map_err(|error| Refused { is_final: error.is_final(), sentence: error.sentence(path) })
}

fn ask(path: &str, owner: Owner) -> io::Result<String> {
    if owner == Owner::Anybody {
        return ask_once(path, owner);
    }
    for _ in 0..MOST_RESTARTS {
        match ask_once(path, owner) {
            Ok(text) if text.is_empty() => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {}
            answer => return answer,
        }
        std::thread::sleep(RESTART);
    }
    Err(io::Error::other("it was started again and again"))
}

fn ask_once(path: &str, owner: Owner) -> io::Result<String> {
    let socket = connect(path)?;
    if owner != Owner::Anybody {
        let user = place::peer::user(socket.as_fd())?;
        if !owner.may_be(user) {
            let why = format!("it is run by user {user}, who is neither root nor this process's user");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    let request =
        format!("farpool-broker 2\nwant gpus\npid {}\nprogram {}\n\n", std::process::id(), program());
    let mut left = request.as_bytes();
    while !left.is_empty() {
        // A broker that is gone must not raise SIGPIPE in the program.
        match send(&socket, left, SendFlags::NOSIGNAL) {
            Ok(sent) => left = &left[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !answer.ends_with(b"\n\n") && answer.len() < ANSWER_LIMIT {
        match rustix::io::read(&socket, &mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A broker that hangs has a queue that fills: then connecting waits, too, and no longer than for an answer.
fn connect(path: &str) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(ANSWER_TIMEOUT))?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// The kernel's word for a time that is over is that somebody should try again.
fn failed(error: Errno) -> io::Error {
    match error {
        Errno::AGAIN => {
            io::Error::new(io::ErrorKind::TimedOut, format!("nothing for {} s", ANSWER_TIMEOUT.as_secs()))
        }
        error => error.into(),
    }
}

/// Name of the program, without its directory and without line breaks.
fn program() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().replace(['\n', '\r'], " ")))
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    fn listen(name: &str) -> (PathBuf, PathBuf, UnixListener) {
        let folder = std::env::temp_dir().join(format!("farpool-shim-nvml-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("broker.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        (folder, path, listener)
    }

    fn question(socket: &mut UnixStream) -> String {
        let mut asked = String::new();
        let mut buffer = [0; 512];
        while !asked.ends_with("\n\n") {
            let count = socket.read(&mut buffer).expect("the question");
            asked.push_str(std::str::from_utf8(&buffer[..count]).expect("text"));
        }
        asked
    }

    #[test]
    fn a_service_that_goes_away_in_the_middle_is_asked_again_and_a_sessions_broker_is_not() {
        let (folder, path, listener) = listen("restart");
        let broker = std::thread::spawn(move || {
            for answer in ["", "ok\n\n", ""] {
                let (mut socket, _) = listener.accept().expect("a question");
                question(&mut socket);
                socket.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        let path = path.to_str().expect("a plain path");
        assert_eq!(ask(path, Owner::RootOrUs).expect("an answer"), "ok\n\n");
        assert_eq!(ask(path, Owner::Anybody).expect("none"), "");
        broker.join().expect("the broker");
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_broker_that_hangs_with_a_full_queue_is_given_up() {
        let (folder, path, listener) = listen("hangs");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let address = SocketAddrUnix::new(&path).expect("an address");
        let mut queue = Vec::new();
        loop {
            let flags = SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
            match rustix::net::connect(&socket, &address) {
                Ok(()) => queue.push(socket),
                Err(error) => break assert_eq!(error, Errno::AGAIN),
            }
        }

        let error = ask(path.to_str().expect("a plain path"), Owner::Anybody).expect_err("no answer");

        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "nothing for 1 s"));
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn the_broker_is_asked_in_its_own_words_and_its_whole_answer_is_read() {
        let (folder, path, listener) = listen("words");
        let broker = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a question");
            let asked = question(&mut socket);
            // In two pieces: an answer need not come at once.
            socket.write_all(b"ok\nsession s-1\ncuda 13.0\ngpu GPU-1\nna").expect("half an answer");
            socket.write_all(b"me Half\nmemory 7 1\npci 0000:01:00.0\n\n").expect("the rest");
            asked
        });
        let text = ask(path.to_str().expect("a plain path"), Owner::Anybody).expect("an answer");
        let asked = broker.join().expect("the broker");
        assert!(asked.starts_with("farpool-broker 2\nwant gpus\npid "), "{asked}");
        let machine = answer::parse(&text).expect("GPUs");
        assert_eq!((machine.gpus[0].name.as_str(), machine.gpus[0].memory_total), ("Half", 7));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
