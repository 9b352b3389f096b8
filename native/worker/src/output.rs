//! What kernels print. The driver writes it to this process's standard output when it synchronises; it belongs on
//! the client's. So standard output is a memory file here, read after every wait. (A pipe would hold at most 64 KiB
//! and then stop the driver.)

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use wire::CallId;
use wire::notice;

use crate::outbox::Outbox;

/// Bytes of one notice.
const PIECE: usize = 256 << 10;

/// The captured standard output.
#[derive(Debug)]
pub struct Output {
    file: OwnedFd,
    taken: Mutex<u64>,
}

impl Output {
    /// Puts a memory file in the place of standard output.
    pub fn capture() -> std::io::Result<Output> {
        let file = rustix::fs::memfd_create("farpool-output", rustix::fs::MemfdFlags::CLOEXEC)?;
        // Appending: the driver's writes and the cutting below never meet at an offset.
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::APPEND)?;
        rustix::stdio::dup2_stdout(&file)?;
        Ok(Output { file, taken: Mutex::new(0) })
    }

    /// Adds what was printed since the last time to the outbox.
    pub fn send(&self, outbox: &Outbox) {
        // SAFETY: flushes the C library's streams; the driver prints through them.
        unsafe { libc::fflush(std::ptr::null_mut()) };
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
            outbox.notice(CallId::OUTPUT, |writer| notice::Output { text }.encode(writer));
        }
    }
}
