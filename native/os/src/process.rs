//! Processes of this machine: which one a number means, and whether it has ended.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Explain, OsError, Result};

/// When the process began, in clock ticks since boot: field 22 of `/proc/PID/stat`. With its number it names a
/// process for as long as the machine runs.
pub(crate) fn start(pid: i32) -> Result<u64> {
    if pid <= 0 {
        return Err(OsError::new(Errno::INVAL, format!("{pid} is not the number of a process")));
    }
    let path = format!("/proc/{pid}/stat");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            let errno = match Errno::from_io_error(&error) {
                Some(Errno::NOENT) | None => Errno::SRCH,
                Some(errno) => errno,
            };
            return Err(OsError::new(errno, format!("process {pid} is not there")));
        }
    };
    parse_start(&text)
        .ok_or_else(|| OsError::new(Errno::NODATA, format!("{path} does not tell when the process began")))
}

/// The second field is the program's name in parentheses, which may hold anything, parentheses too.
fn parse_start(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    // Field 3 is the first behind the name.
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// A pidfd of the process `pid`, which began at the same moment before and after it was opened.
pub(crate) fn pidfd_of(pid: i32) -> Result<OwnedFd> {
    let before = start(pid)?;
    let number = Pid::from_raw(pid)
        .ok_or_else(|| OsError::new(Errno::INVAL, format!("{pid} is not the number of a process")))?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).explain(|| format!("no pidfd of process {pid}"))?;
    let after = start(pid)?;
    if before != after {
        return Err(OsError::new(
            Errno::SRCH,
            format!("process {pid} began at tick {after}, the one that was meant at {before}"),
        ));
    }
    Ok(pidfd)
}

/// Whether the process of a pidfd has ended, reaped or not.
pub(crate) fn has_ended(pidfd: impl AsFd) -> Result<bool> {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut polled, Some(&at_once)) {
            Err(Errno::INTR) => {}
            other => {
                other.explain(|| "a pidfd cannot be asked")?;
                return Ok(!polled[0].revents().is_empty());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_start_is_read_behind_any_name() {
        let fields = (3..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");

        assert_eq!(parse_start(format!("7 (cat) {fields}").as_bytes()), Some(22));
        assert_eq!(parse_start(format!("7 (a) 1 2 (b) {fields}").as_bytes()), Some(22));
        let mut odd = b"7 (\xff) ".to_vec();
        odd.extend_from_slice(fields.as_bytes());
        assert_eq!(parse_start(&odd), Some(22));
        assert_eq!(parse_start(b"7 (cat) S 1"), None);
        assert_eq!(parse_start(b""), None);
    }

    #[test]
    fn a_process_has_one_start_until_it_is_gone() {
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();

        let own = start(i32::try_from(std::process::id()).unwrap()).unwrap();
        let begun = start(pid).unwrap();
        let pidfd = pidfd_of(pid).unwrap();
        let running = has_ended(&pidfd).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        assert!(begun >= own);
        assert!(!running);
        assert!(has_ended(&pidfd).unwrap());
        assert_eq!(start(pid).unwrap_err().errno, Errno::SRCH);
        assert_eq!(pidfd_of(pid).unwrap_err().errno, Errno::SRCH);
    }

    #[test]
    fn a_process_that_nobody_has_reaped_has_ended() {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = pidfd_of(pid).unwrap();

        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        while matches!(poll(&mut polled, None), Err(Errno::INTR)) {}

        assert!(has_ended(&pidfd).unwrap());
        assert!(start(pid).is_ok(), "its number is still taken");
        child.wait().unwrap();
    }

    #[test]
    fn what_is_no_process_number_is_refused() {
        for pid in [0, -4] {
            assert_eq!(start(pid).unwrap_err().errno, Errno::INVAL);
        }
    }
}
