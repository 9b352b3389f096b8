//! Asks the session's broker for its GPUs (ARCHITECTURE 4.4).

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nvml::{Machine, Refused};
use rustix::net::{SendFlags, send};

use crate::answer;

/// Bytes of an answer that are read at most: thousands of processes.
const ANSWER_LIMIT: usize = 4 << 20;

/// How long the broker may take. It asks the manager when what it knows is old.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The GPUs of the session of this process.
pub fn machine() -> Result<Machine, Refused> {
    let Ok(path) = std::env::var("FARPOOL_SESSION") else {
        return Err(Refused {
            sentence: "this process belongs to no session (FARPOOL_SESSION is not set), so it has no GPU; \
                       hint: start it with `farpool run -n 1 -- PROGRAM`"
                .to_owned(),
            is_final: true,
        });
    };
    let text = ask(&path).map_err(|error| Refused {
        sentence: format!(
            "the session's broker at `{path}` does not answer ({error}): the session has probably ended"
        ),
        is_final: true,
    })?;
    answer::parse(&text)
        .map_err(|error| Refused { is_final: error.is_final(), sentence: error.sentence(&path) })
}

fn ask(path: &str) -> io::Result<String> {
    let socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let request =
        format!("farpool-broker 2\nwant gpus\npid {}\nprogram {}\n\n", std::process::id(), program());
    let mut left = request.as_bytes();
    while !left.is_empty() {
        // A broker that is gone must not raise SIGPIPE in the program.
        match send(&socket, left, SendFlags::NOSIGNAL) {
            Ok(sent) => left = &left[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !answer.ends_with(b"\n\n") && answer.len() < ANSWER_LIMIT {
        match rustix::io::read(&socket, &mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_broker_is_asked_in_its_own_words_and_its_whole_answer_is_read() {
        let folder = std::env::temp_dir().join(format!("farpool-shim-nvml-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("broker.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let broker = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a question");
            let mut asked = String::new();
            let mut buffer = [0; 512];
            while !asked.ends_with("\n\n") {
                let count = socket.read(&mut buffer).expect("the question");
                asked.push_str(std::str::from_utf8(&buffer[..count]).expect("text"));
            }
            // In two pieces: an answer need not come at once.
            socket.write_all(b"ok\nsession s-1\ncuda 13.0\ngpu GPU-1\nna").expect("half an answer");
            socket.write_all(b"me Half\nmemory 7 1\npci 0000:01:00.0\n\n").expect("the rest");
            asked
        });
        let text = ask(path.to_str().expect("a plain path")).expect("an answer");
        let asked = broker.join().expect("the broker");
        assert!(asked.starts_with("farpool-broker 2\nwant gpus\npid "), "{asked}");
        let machine = answer::parse(&text).expect("GPUs");
        assert_eq!((machine.gpus[0].name.as_str(), machine.gpus[0].memory_total), ("Half", 7));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
