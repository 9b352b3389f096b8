//! Writes down what programs send to their workers: seeds for the fuzzers, from real programs.
//!
//! It stands between the two, on a Unix socket of its own, and passes on every byte both ways.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context;
use wire::preface::{PREFACE_BYTES, Preface};

/// Bytes of one connection that are written down: seeds are of use when they are small.
const MOST_RECORDED: usize = 40 << 10;

/// Starts recording what goes to the acceptor of `folder`; answers the endpoint that programs are to be told instead.
pub fn start(folder: &Path, prefix: &Path) -> anyhow::Result<String> {
    let (path, acceptor) = (folder.join("recorder"), folder.join("data"));
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    let prefix = prefix.to_owned();
    let serve = move || {
        for (number, client) in (1..).zip(listener.incoming()) {
            let (acceptor, prefix) = (acceptor.clone(), prefix.clone());
            let pass_on = move || {
                if let Err(error) = client.and_then(|client| record(client, &acceptor, &prefix, number)) {
                    eprintln!("farpool-stand: connection {number} is not wholly recorded: {error}");
                }
            };
            if let Err(error) = std::thread::Builder::new().name("recorder".into()).spawn(pass_on) {
                eprintln!("farpool-stand: connection {number} is not served: {error}");
            }
        }
    };
    std::thread::Builder::new().name("recorder".into()).spawn(serve).context("start the recorder")?;
    Ok(format!("unix {}", path.display()))
}

/// Passes on both directions of one connection and writes down what `client` sends.
fn record(mut client: UnixStream, acceptor: &Path, prefix: &Path, number: usize) -> io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    client.read_exact(&mut preface)?;
    let is_bulk_lane = Preface::decode(&preface).is_ok_and(|preface| preface.purpose.is_bulk_lane);
    let mut file = File::create(name(prefix, number, is_bulk_lane))?;
    let mut worker = UnixStream::connect(acceptor)?;
    worker.write_all(&preface)?;
    file.write_all(&preface)?;

    let (mut answers, mut answered) = (worker.try_clone()?, client.try_clone()?);
    let pass_back = move || {
        // An end that is gone is seen by the other direction, too.
        let _ = io::copy(&mut answers, &mut answered);
        let _ = answered.shutdown(Shutdown::Write);
    };
    std::thread::Builder::new().name("recorder".into()).spawn(pass_back)?;

    let (mut room, mut buffer) = (MOST_RECORDED - PREFACE_BYTES, vec![0; 64 << 10]);
    loop {
        let count = match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let recorded = count.min(room);
        file.write_all(&buffer[..recorded])?;
        room -= recorded;
        worker.write_all(&buffer[..count])?;
    }
    worker.shutdown(Shutdown::Write)
}

/// `PREFIX.bin` for a program's first connection, `PREFIX.2.bin` and so on for later ones, `PREFIX.3.bulk.bin` for a bulk lane.
fn name(prefix: &Path, number: usize, is_bulk_lane: bool) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    if number > 1 {
        name.push(format!(".{number}"));
    }
    name.push(if is_bulk_lane { ".bulk.bin" } else { ".bin" });
    name.into()
}
