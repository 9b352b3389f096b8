//! The lock on the whole file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::error::LedgerError;

/// What the holder of a lock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// An OFD lock, held until dropped (or until the kernel closes the file of a dead holder).
pub(crate) struct FileLock<'a> {
    file: &'a File,
}

impl<'a> FileLock<'a> {
    pub(crate) fn take(file: &'a File, access: Access) -> Result<FileLock<'a>, LedgerError> {
        let kind = match access {
            Access::Read => libc::F_RDLCK,
            Access::Write => libc::F_WRLCK,
        };
        loop {
            match set_lock(file, libc::F_OFD_SETLKW, kind) {
                Ok(()) => return Ok(FileLock { file }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(LedgerError::Io { what: "lock the ledger", source }),
            }
        }
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        // Cannot fail for a lock that is held; and there is nobody to tell.
        let _ = set_lock(self.file, libc::F_OFD_SETLK, libc::F_UNLCK);
    }
}

fn set_lock(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<()> {
    // The constants are 0, 1 and 2, and 0; `flock` holds them as shorts.
    let narrow = |value: libc::c_int| libc::c_short::try_from(value).map_err(io::Error::other);
    let range = libc::flock {
        l_type: narrow(kind)?,
        l_whence: narrow(libc::SEEK_SET)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and `range` is a whole `flock`
    // that the kernel only reads, during the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const range) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
