//! Starting a worker: what it inherits and, above all, what it does not.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags};

use crate::workers_folder::WorkerFiles;

/// The worker's control socket, in the worker.
const CONTROL_FD: RawFd = 3;
/// The session's ledger, in the worker.
const LEDGER_FD: RawFd = 4;

/// The socket at which the next acceptor comes, in the worker.
const SUCCESSION_FD: RawFd = 5;
/// The file of the worker's account, in the worker.
const ACCOUNT_FD: RawFd = 6;

/// Variables that a worker gets when the acceptor has them.
const KEPT_VARIABLES: [&str; 4] = ["PATH", "HOME", "LANG", "RUST_LOG"];
/// And those that begin with one of these.
const KEPT_PREFIXES: [&str; 2] = ["FARPOOL_SIMGPU_", "CUDA_"];

/// Starts workers.
pub(crate) struct Spawner {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// What a worker is started with.
pub(crate) struct Start<'a> {
    /// The first message on the control socket.
    pub(crate) message: &'a [u8],
    /// The client's socket, and for TLS the server's identity, which travel with it.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    pub(crate) ledger: BorrowedFd<'a>,
    /// What the worker has in the folder of workers.
    pub(crate) files: &'a WorkerFiles,
    /// Value of `CUDA_VISIBLE_DEVICES`.
    pub(crate) visible_devices: String,
}

/// A worker that was started.
pub(crate) struct Spawned {
    pub(crate) child: Child,
    /// Readable when the worker has ended; signals sent through it cannot hit another process.
    pub(crate) pidfd: OwnedFd,
    /// Our end of the control socket.
    pub(crate) control: OwnedFd,
}

impl Spawner {
    /// Remembers the acceptor's environment, and takes descriptors 3 to 6 out of circulation: `spawn`
    /// overwrites them in the child, where one of them could otherwise be the standard library's pipe for
    /// a failed `exec`, or the source of the other.
    pub(crate) fn new(program: PathBuf, driver: &Path) -> io::Result<Spawner> {
        loop {
            let file = File::open("/dev/null")?;
            if file.as_raw_fd() > ACCOUNT_FD {
                break;
            }
            // Kept open for the life of the process, which is the point.
            let _ = file.into_raw_fd();
        }
        let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| is_kept(name)).collect();
        // A driver loads parts of itself by their bare names (the PTX compiler, NVML), and lies in any folder.
        let beside = driver.parent().filter(|folder| folder.is_absolute());
        environment.extend(beside.map(|folder| ("LD_LIBRARY_PATH".into(), folder.into())));
        Ok(Spawner { program, environment })
    }

    /// Starts a worker. The first message waits in its socket before the process exists.
    pub(crate) fn spawn(&self, start: &Start<'_>) -> io::Result<Spawned> {
        let (control, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        send_with_descriptors(&control, start.message, start.descriptors)?;
        let mut command = Command::new(&self.program);
        command.arg("serve");
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("CUDA_VISIBLE_DEVICES", &start.visible_devices);
        command.stdin(Stdio::null());
        // Inherited, not piped through us: a worker must be able to log when the acceptor is gone.
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        let [succession, account] = start.files.as_fds().map(|descriptor| descriptor.as_raw_fd());
        let inherited = [
            (theirs.as_raw_fd(), CONTROL_FD),
            (start.ledger.as_raw_fd(), LEDGER_FD),
            (succession, SUCCESSION_FD),
            (account, ACCOUNT_FD),
        ];
        // SAFETY: the closure runs between fork and exec and makes async-signal-safe calls only; it
        // allocates nothing. All descriptors stay open until `spawn` returns, which is after the exec.
        unsafe { command.pre_exec(move || prepare_child(inherited)) };
        let mut child = command.spawn()?;
        // The child is not reaped yet, so its number still means it.
        let pid = Pid::from_child(&child);
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.into());
            }
        };
        Ok(Spawned { child, pidfd, control })
    }
}

fn is_kept(name: &std::ffi::OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    name != "CUDA_VISIBLE_DEVICES"
        && (KEPT_VARIABLES.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// Runs in the child, before `exec`.
fn prepare_child(inherited: [(RawFd, RawFd); 4]) -> io::Result<()> {
    // SAFETY: these calls take numbers only and are async-signal-safe. `dup2` clears close-on-exec on the
    // copies. Overwriting 3 to 6 closes nothing of use: `Spawner::new` holds them.
    unsafe {
        // A session of its own: a terminal's Ctrl-C or hang-up ends the acceptor's group, not programs.
        // PR_SET_PDEATHSIG is left alone on purpose, see the crate's text.
        if libc::setsid() == -1 {
            return Err(io::Error::last_os_error());
        }
        for (ours, number) in inherited {
            if libc::dup2(ours, number) == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        // Everything of ours is close-on-exec; this is for what whoever started us left open. A kernel
        // before 5.11 does not know the call, and then those descriptors pass on, as they did to us.
        libc::syscall(
            libc::SYS_close_range,
            libc::c_uint::from(7u8),
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
    Ok(())
}

/// Sends a worker a message with one or two descriptors, if its socket has room at the moment.
pub(crate) fn send_with_descriptors(
    socket: &OwnedFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for the descriptor"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[io::IoSlice::new(message)], &mut ancillary, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_kept;

    #[test]
    fn only_listed_variables_reach_a_worker() {
        let kept = |name: &str| is_kept(name.as_ref());
        assert!(["PATH", "HOME", "FARPOOL_SIMGPU_GPUS", "CUDA_CACHE_PATH"].into_iter().all(kept));
        assert!(!["LD_PRELOAD", "FARPOOL_SESSION", "CUDA_VISIBLE_DEVICES", "SECRET"].into_iter().any(kept));
    }
}
