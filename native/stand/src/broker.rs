//! Answers shims (ARCHITECTURE 4.4).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context;

use transport::routing_token;

use crate::server::Session;

/// Serves all processes of the command, until this process ends; the path is what they are told.
pub fn serve(folder: &Path, session: Session) -> anyhow::Result<PathBuf> {
    let path = folder.join("broker");
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::thread::Builder::new()
        .name("broker".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // A shim that went away in between needs no answer.
                let _ = admit(stream, &session);
            }
        })
        .context("start the broker")?;
    Ok(path)
}

fn admit(mut stream: UnixStream, session: &Session) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    let mut connection_id = random()?;
    let mut asks_gpus = false;
    // The request ends with an empty line.
    while lines.read_line(&mut line)? > 1 {
        if let Some(id) = line.trim_end().strip_prefix("connection ").and_then(from_hex) {
            connection_id = id;
        }
        asks_gpus |= line.trim_end() == "ask gpus";
        line.clear();
    }
    if asks_gpus {
        let sentence = "a stand tells nothing of its GPUs but to CUDA";
        return writeln!(stream, "error 69 CUDA_ERROR_NOT_SUPPORTED {sentence}");
    }
    let token = hex(&routing_token(&session.secret, &connection_id));
    let (id, connection, endpoint) = (session.id, hex(&connection_id), &session.endpoint);
    write!(stream, "ok\nsession {id}\nconnection {connection}\ntoken {token}\nendpoint {endpoint}\n\n")
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// As the protocols spell bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(u128::to_be_bytes)
}
