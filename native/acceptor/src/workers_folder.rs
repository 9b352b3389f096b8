//! The folder by which an acceptor finds the workers of an earlier one. Of each worker it holds three files named by its
//! connection id: what the acceptor knew (`.json`), the socket at which the worker waits for a new acceptor (`.sock`),
//! and the worker's own account of itself (`.account`), which is the last word of one that ended while there was no acceptor.
//! Of a worker that has ended the note is kept until an agent says that the manager knows of it, also when its session is over.
//!
//! What counts (session, slot, GPUs) is the acceptor's own note: workers execute the calls of strangers and cannot open
//! files here. A folder that is there when an acceptor starts means that an earlier one has not ended in order.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::protocol::Gpu;
use crate::worker_protocol::{Account, WorkerView};

/// Acceptors that wait to be taken; one does.
const BACKLOG: i32 = 4;
/// Bytes of an account that are read; a report of 64 GPUs has 6 KiB.
const MOST_ACCOUNT: usize = 64 << 10;
/// How long another acceptor may take to let go of the folder: a child of its between `fork` and `exec` has it open, too.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

const NOTE: &str = "json";
const SOCKET: &str = "sock";
const ACCOUNT: &str = "account";
/// A note that takes the place of another.
const NEW: &str = "new";

/// The folder, held by one acceptor at a time.
pub(crate) struct WorkersFolder {
    path: PathBuf,
    folder: File,
    had_predecessor: bool,
}

/// What an acceptor notes of a worker before it starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Note {
    pub(crate) session_id: String,
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) slot: u32,
    /// Slots that the session's ledger has.
    pub(crate) slots: u32,
    /// Which file the ledger is.
    pub(crate) ledger: FileId,
    pub(crate) started_at: String,
    /// All that is known of a worker that has ended.
    #[serde(default)]
    pub(crate) ended: Option<WorkerView>,
}

/// Device and inode.
pub(crate) type FileId = (u64, u64);

/// What a worker inherits of its files.
pub(crate) struct WorkerFiles {
    pub(crate) socket: OwnedFd,
    pub(crate) account: File,
}

/// A worker of an earlier acceptor.
pub(crate) struct Left {
    pub(crate) connection_id: String,
    pub(crate) note: Note,
    /// A connection to the worker; none when it has ended.
    pub(crate) control: Option<OwnedFd>,
}

/// Which file a descriptor is.
pub(crate) fn file_id(file: impl AsFd) -> io::Result<FileId> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

impl WorkersFolder {
    /// Makes the folder, or takes it over, for this process alone.
    pub(crate) fn open(path: &Path) -> anyhow::Result<WorkersFolder> {
        let had_predecessor = match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        };
        let folder = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
            .with_context(|| format!("cannot open the folder {}", path.display()))?;
        let metadata = folder.metadata()?;
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user || metadata.mode() & 0o077 != 0 {
            bail!(
                "{} belongs to user {} and has mode {:o}, expected user {user} and mode 700: whoever can write there could \
                 take workers over",
                path.display(),
                metadata.uid(),
                metadata.mode() & 0o777
            );
        }
        let started = Instant::now();
        while let Err(error) = rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK || started.elapsed() > LOCK_PATIENCE {
                return Err(error)
                    .with_context(|| format!("{} is in use: another acceptor has it", path.display()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(WorkersFolder { path: path.to_owned(), folder, had_predecessor })
    }

    /// Whether an earlier acceptor had not ended in order.
    pub(crate) fn had_predecessor(&self) -> bool {
        self.had_predecessor
    }

    /// Notes a worker that is about to start, and makes what it inherits.
    pub(crate) fn add(&self, connection_id: &str, note: &Note) -> anyhow::Result<WorkerFiles> {
        if self.note(connection_id).is_some_and(|note| note.ended.is_some()) {
            self.remove(connection_id);
        }
        let new = |kind: &str| {
            let path = self.file(connection_id, kind);
            let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
            file.with_context(|| format!("cannot make {}", path.display()))
        };
        let noted = new(NOTE)?;
        let files = (|| {
            noted.write_all_at(&serde_json::to_vec(note)?, 0)?;
            let account = new(ACCOUNT)?;
            let socket = seqpacket()?;
            rustix::net::bind(&socket, &self.address(connection_id)?)?;
            rustix::net::listen(&socket, BACKLOG)?;
            anyhow::Ok(WorkerFiles { socket, account })
        })();
        if files.is_err() {
            self.remove(connection_id);
        }
        files
    }

    /// Notes the end of a worker.
    pub(crate) fn end(&self, view: &WorkerView) {
        let id = &view.connection_id;
        let Some(note) = self.note(id) else { return self.remove(id) };
        let note = Note { ended: Some(view.clone()), ..note };
        let new = self.file(id, NEW);
        let written = serde_json::to_vec(&note)
            .map_err(io::Error::from)
            .and_then(|bytes| fs::write(&new, bytes))
            .and_then(|()| fs::rename(&new, self.file(id, NOTE)));
        if let Err(error) = written {
            tracing::warn!(path = %new.display(), %error, "cannot note the end of a worker");
        }
        self.remove_kinds(id, &[SOCKET, ACCOUNT]);
    }

    fn note(&self, connection_id: &str) -> Option<Note> {
        let bytes = fs::read(self.file(connection_id, NOTE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Forgets a worker.
    pub(crate) fn remove(&self, connection_id: &str) {
        self.remove_kinds(connection_id, &[SOCKET, ACCOUNT, NEW, NOTE]);
    }

    fn remove_kinds(&self, connection_id: &str, kinds: &[&str]) {
        for kind in kinds {
            let path = self.file(connection_id, kind);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove a worker's file");
                }
                _ => {}
            }
        }
    }

    /// What a worker has written about itself.
    pub(crate) fn account(&self, connection_id: &str) -> Account {
        let mut bytes = vec![0; MOST_ACCOUNT];
        let read = File::open(self.file(connection_id, ACCOUNT)).and_then(|file| file.read_at(&mut bytes, 0));
        let line = bytes.get(..read.unwrap_or(0)).and_then(|bytes| bytes.split(|byte| *byte == b'\n').next());
        line.and_then(Account::parse).unwrap_or_default()
    }

    /// The workers of earlier acceptors. Files that mean nothing are removed.
    pub(crate) fn left(&self) -> anyhow::Result<Vec<Left>> {
        let names = fs::read_dir(&self.path)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
            })
            .with_context(|| format!("cannot list {}", self.path.display()))?;
        let mut ids: Vec<String> = names
            .iter()
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into_iter().filter_map(|id| self.left_of(id)).collect())
    }

    fn left_of(&self, connection_id: String) -> Option<Left> {
        let note = self.note(&connection_id);
        if let Some(note) = &note
            && note.ended.is_some()
        {
            return Some(Left { connection_id, note: note.clone(), control: None });
        }
        let control = self.connect(&connection_id);
        match (note, control) {
            (Some(note), Ok(control)) => Some(Left { connection_id, note, control: Some(control) }),
            (Some(note), Err(Errno::CONNREFUSED | Errno::NOENT)) => {
                Some(Left { connection_id, note, control: None })
            }
            (Some(_), Err(error)) => {
                // It will end by itself when nobody takes it over.
                tracing::error!(connection = connection_id, %error, "cannot connect to a worker");
                None
            }
            (None, _) => {
                self.remove(&connection_id);
                None
            }
        }
    }

    fn connect(&self, connection_id: &str) -> rustix::io::Result<OwnedFd> {
        let socket = seqpacket()?;
        // Then the kernel says of each message who has sent it.
        sockopt::set_socket_passcred(&socket, true)?;
        rustix::net::connect(&socket, &self.address(connection_id)?)?;
        Ok(socket)
    }

    /// By way of the open folder: a socket's path has 107 bytes at most, which the folder's alone may exceed.
    fn address(&self, connection_id: &str) -> rustix::io::Result<SocketAddrUnix> {
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{connection_id}.{SOCKET}", self.folder.as_raw_fd()))
    }

    fn file(&self, connection_id: &str, kind: &str) -> PathBuf {
        self.path.join(format!("{connection_id}.{kind}"))
    }

    /// At the end of an acceptor that leaves no workers behind. What no agent has asked for is told by the next acceptor.
    pub(crate) fn close(&self, is_empty: bool) {
        if !is_empty {
            return;
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the folder of workers");
        }
    }
}

impl WorkerFiles {
    pub(crate) fn as_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.account.as_fd()]
    }
}

fn seqpacket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        let gpus = vec![Gpu { uuid: "GPU-1".into(), memory_limit_bytes: Some(5) }];
        let started_at = "2026-11-30T00:00:00.000Z".into();
        Note { session_id: "s1".into(), gpus, slot: 3, slots: 8, ledger: (1, 2), started_at, ended: None }
    }

    #[test]
    fn workers_are_found_again_also_below_a_path_that_is_too_long_for_sockets() {
        let parent = std::env::temp_dir().join(format!("farpool-{}-{}", std::process::id(), "x".repeat(120)));
        fs::create_dir_all(&parent).expect("a folder");
        let (living, ended, half) = ("1".repeat(32), "2".repeat(32), "3".repeat(32));
        let folder = WorkersFolder::open(&parent.join("workers")).expect("a folder of workers");
        assert!(!folder.had_predecessor());
        let files = folder.add(&living, &note()).expect("files");
        drop(folder.add(&ended, &note()).expect("files"));
        fs::write(parent.join("workers").join(format!("{half}.account")), "").expect("a file");
        assert!(folder.add(&living, &note()).is_err(), "a connection id is one worker's");
        files.account.write_all_at(b"{\"pid\":7,\"exit\":3}\nold", 0).expect("written");
        assert!(WorkersFolder::open(&parent.join("workers")).is_err(), "it is held");
        drop(folder);

        let folder = WorkersFolder::open(&parent.join("workers")).expect("a folder of workers");
        assert!(folder.had_predecessor());
        let left = folder.left().expect("a list");
        let found: Vec<_> =
            left.iter().map(|left| (left.connection_id.as_str(), left.control.is_some())).collect();
        assert_eq!(found, [(living.as_str(), true), (ended.as_str(), false)]);
        assert_eq!(left[0].note, note());
        let account = folder.account(&living);
        assert_eq!((account.pid, account.exit), (Some(7), Some(3)));
        assert_eq!(folder.account(&ended), Account::default());
        folder.remove(&living);
        folder.remove(&ended);
        folder.close(true);
        fs::remove_dir(&parent).expect("nothing is left");
    }
}
