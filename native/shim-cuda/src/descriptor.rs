//! The descriptors that this library keeps in the program's process: one, another one once long data travel, and one while
//! the broker is asked.
//!
//! Programs take low numbers to be theirs: they put files on "unused" ones with `dup2`, and count on `open` answering
//! the lowest free one. So connections live on high numbers.

use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::state::{Line, note_descriptor};

/// The highest number that is looked for: the kernel's table of descriptors is as long as the highest one in use, and
/// `select` ends here.
const HIGHEST: u64 = 1024;

/// Numbers below [`HIGHEST`] that are tried.
const ROOM: u64 = 24;

/// Puts a connection on a high number, closed on exec, and notes it for children. Where no number is free it stays.
pub fn place(descriptor: OwnedFd, line: Line) -> OwnedFd {
    let descriptor = moved_up(&descriptor).unwrap_or(descriptor);
    note_descriptor(&descriptor, line);
    descriptor
}

fn moved_up(descriptor: &OwnedFd) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place is valid.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let from = i32::try_from(limit.rlim_cur.min(HIGHEST).saturating_sub(ROOM)).ok()?;
    // SAFETY: makes another number for an open descriptor, or fails.
    let number = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, from) };
    // SAFETY: the number was made just now and belongs to nobody else.
    (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn a_descriptor_moves_out_of_the_way() {
        let file: OwnedFd = std::fs::File::open("/dev/null").expect("a file").into();
        let moved = moved_up(&file).expect("a free number");
        assert!(moved.as_raw_fd() >= 40, "{moved:?}");
        // SAFETY: asks about a number.
        assert_eq!(unsafe { libc::fcntl(moved.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
    }
}
