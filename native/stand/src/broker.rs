//! Answers shims (ARCHITECTURE 4.4).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::server::Session;

/// Serves all processes of the command, until this process ends; the path is what they are told.
pub fn serve(folder: &Path, session: Session) -> anyhow::Result<PathBuf> {
    let path = folder.join("broker");
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    let answer =
        format!("ok\nsession {}\nsecret {}\nendpoint {}\n\n", session.id, session.secret, session.endpoint);
    std::thread::Builder::new()
        .name("broker".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // A shim that went away in between needs no answer.
                let _ = admit(stream, &answer);
            }
        })
        .context("start the broker")?;
    Ok(path)
}

fn admit(mut stream: UnixStream, answer: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    // The request ends with an empty line.
    while lines.read_line(&mut line)? > 1 {
        line.clear();
    }
    stream.write_all(answer.as_bytes())
}
