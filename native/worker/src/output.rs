//! What kernels print, and what the driver says of their failed assertions. The driver writes both to this process's
//! standard output and standard error when it synchronises; they belong on the client's. So both are memory files
//! here, read after every wait. (A pipe would hold at most 64 KiB and then stop the driver.)

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use wire::CallId;
use wire::notice::{self, Channel};

use crate::outbox::Outbox;

/// Bytes of one notice.
const PIECE: usize = 256 << 10;

/// The standard error that this process was started with, for its log: what is in its place later goes to the client.
pub fn log_file() -> std::io::Result<File> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), FIRST_FREE)?.into())
}

/// The descriptors below are those that the acceptor gives: the standard ones, the control socket, the ledger.
const FIRST_FREE: i32 = 5;

/// The captured standard output and standard error.
#[derive(Debug)]
pub struct Output {
    printed: Captured,
    complaints: Captured,
}

/// A memory file in the place of a descriptor.
#[derive(Debug)]
struct Captured {
    file: OwnedFd,
    taken: Mutex<u64>,
}

impl Output {
    /// Puts memory files in the place of standard output and standard error.
    pub fn capture() -> std::io::Result<Output> {
        let (printed, complaints) = (Captured::new()?, Captured::new()?);
        rustix::stdio::dup2_stdout(&printed.file)?;
        rustix::stdio::dup2_stderr(&complaints.file)?;
        Ok(Output { printed, complaints })
    }

    /// Adds what was written since the last time to the outbox.
    pub fn send(&self, outbox: &Outbox) {
        // SAFETY: flushes the C library's streams; the driver prints through them.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        self.printed.send(outbox, Channel::Output);
        self.complaints.send(outbox, Channel::Error);
    }
}

impl Captured {
    fn new() -> std::io::Result<Captured> {
        let file = rustix::fs::memfd_create("farpool-output", rustix::fs::MemfdFlags::CLOEXEC)?;
        // Appending: the driver's writes never meet at an offset.
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::APPEND)?;
        Ok(Captured { file, taken: Mutex::new(0) })
    }

    fn send(&self, outbox: &Outbox, channel: Channel) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // This is asked before every answer, and hardly any kernel prints.
        let size = rustix::fs::fstat(&self.file).map_or(0, |file| u64::try_from(file.st_size).unwrap_or(0));
        while *taken < size {
            let mut text = vec![0; PIECE];
            let count = rustix::io::pread(&self.file, &mut text, *taken).unwrap_or(0);
            if count == 0 {
                break;
            }
            *taken += count as u64;
            text.truncate(count);
            outbox.notice(CallId::OUTPUT, |writer| notice::Output { channel, text }.encode(writer));
        }
    }
}
