//! How the workers of one session keep their GPU memory, all together, inside the session's limits.
//!
//! The ledger is a memfd with one `u64` per GPU of the session (*device*) and worker (*slot*): the bytes
//! this worker has reserved on that GPU. A worker adds to its own slot before it allocates; the
//! reservation is admitted when the sum over all slots stays within the limit. Because the sum is formed
//! and the slot is written under one lock, two workers can never both take the last bytes.
//!
//! **Who may die when.** The lock is an OFD lock, which the kernel drops with the last descriptor, so a
//! worker killed inside a reservation blocks nobody; its slot holds either the old or the new number, as
//! both are written by one 8-byte `pwrite`. The acceptor then zeroes the slot.
//!
//! **Why `pread` and `pwrite`, not `mmap`.** A reservation is two or three system calls, some microseconds
//! beside a `cuMemAlloc` of hundreds. In exchange nothing here is unsafe but the lock call, and a hostile
//! worker that writes nonsense into the file produces wrong numbers, never a fault in its neighbours.
//!
//! **Why every opener reopens the file.** OFD locks belong to the *open file description*. A descriptor
//! that was inherited or passed shares its description with the acceptor and with every other worker, and
//! holders of one description never exclude each other. [`Ledger::open`] therefore opens the memfd again
//! through `/proc/self/fd`, which makes a description of its own.

mod error;
mod layout;
mod lock;
mod slot;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags};

pub use error::LedgerError;
use layout::Layout;
pub use layout::{MAX_DEVICES, MAX_SLOTS};
use lock::{Access, FileLock};
pub use slot::SlotHandle;

/// An open ledger. Clones share the open file and may be used from any thread.
#[derive(Debug, Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    file: File,
    layout: Layout,
    /// Threads of one process share the open file description, so the OFD lock does not exclude them.
    threads: Mutex<()>,
}

impl Ledger {
    /// Makes a ledger with every slot empty. The descriptor is for passing to workers (close-on-exec; it
    /// has an open file description apart from the one that this ledger uses).
    pub fn create(devices: u32, slots: u32) -> Result<(Ledger, OwnedFd), LedgerError> {
        let layout = Layout::new(devices, slots)?;
        let fd = rustix::fs::memfd_create("farpool-ledger", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(LedgerError::io("create the memfd"))?;
        let file = File::from(fd);
        file.set_len(layout.bytes()).map_err(LedgerError::io_std("size the memfd"))?;
        file.write_all_at(&layout.header(), 0).map_err(LedgerError::io_std("write the header"))?;
        // Sealed, so that no worker can cut the file under the others.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(LedgerError::io("seal the memfd"))?;
        let fd = OwnedFd::from(file);
        let ledger = Ledger::open(&fd)?;
        Ok((ledger, fd))
    }

    /// Opens the ledger behind `fd`, which stays the caller's and may be closed afterwards. Needs `/proc`:
    /// open the ledger before a sandbox takes it away.
    pub fn open(fd: impl std::os::fd::AsFd) -> Result<Ledger, LedgerError> {
        let mut file = reopen(fd.as_fd())?;
        let length = file.seek(SeekFrom::End(0)).map_err(LedgerError::io_std("measure the ledger"))?;
        let layout = layout::read_header(&file, length)?;
        Ok(Ledger { inner: Arc::new(Inner { file, layout, threads: Mutex::new(()) }) })
    }

    /// GPUs of the session.
    pub fn devices(&self) -> u32 {
        self.inner.layout.devices
    }

    /// Workers that the session can have at once.
    pub fn slots(&self) -> u32 {
        self.inner.layout.slots
    }

    /// A handle to slot `slot`. Only one process may hold it: it belongs to one worker.
    pub fn slot(&self, slot: u32) -> Result<SlotHandle, LedgerError> {
        self.inner.layout.check_slot(slot)?;
        Ok(SlotHandle::new(Arc::clone(&self.inner), slot))
    }

    /// Bytes reserved on `device`, summed over all slots.
    pub fn used(&self, device: u32) -> Result<u64, LedgerError> {
        let guard = self.inner.lock(Access::Read)?;
        guard.sum(device)
    }

    /// Empties `slot`, whose worker is dead, on all devices.
    ///
    /// Takes no lock, so that a worker that is stopped inside its lock (or holds it out of malice) cannot
    /// stop the acceptor. That is sound: the slot's owner is gone, and whoever sums the slots meanwhile
    /// counts the old number or a smaller one, and the memory behind it is free already.
    pub fn clear_slot(&self, slot: u32) -> Result<(), LedgerError> {
        self.inner.layout.check_slot(slot)?;
        for device in 0..self.devices() {
            self.inner.write(device, slot, 0)?;
        }
        Ok(())
    }
}

/// The ledger while its lock is held.
pub(crate) struct Locked<'a> {
    inner: &'a Inner,
    // Dropped in this order: other processes first, then this process's threads.
    _file: FileLock<'a>,
    _threads: MutexGuard<'a, ()>,
}

impl Inner {
    pub(crate) fn lock(&self, access: Access) -> Result<Locked<'_>, LedgerError> {
        // The mutex guards no data, so a panic under it left nothing half done.
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let file = FileLock::take(&self.file, access)?;
        let locked = Locked { inner: self, _file: file, _threads: threads };
        // Workers can write anywhere in the file: a damaged header means none of it is to be trusted.
        if layout::read_header(&self.file, self.layout.bytes())? != self.layout {
            return Err(LedgerError::Corrupt { reason: "the header was changed" });
        }
        Ok(locked)
    }

    fn write(&self, device: u32, slot: u32, bytes: u64) -> Result<(), LedgerError> {
        let offset = self.layout.offset(device, slot)?;
        self.file.write_all_at(&bytes.to_le_bytes(), offset).map_err(LedgerError::io_std("write a slot"))
    }
}

impl Locked<'_> {
    pub(crate) fn read(&self, device: u32, slot: u32) -> Result<u64, LedgerError> {
        let offset = self.inner.layout.offset(device, slot)?;
        let mut bytes = [0; 8];
        self.inner.file.read_exact_at(&mut bytes, offset).map_err(LedgerError::io_std("read a slot"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn sum(&self, device: u32) -> Result<u64, LedgerError> {
        let offset = self.inner.layout.offset(device, 0)?;
        let mut row = vec![0; self.inner.layout.row_bytes()];
        self.inner.file.read_exact_at(&mut row, offset).map_err(LedgerError::io_std("read the slots"))?;
        row.chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()))
            .try_fold(0u64, u64::checked_add)
            .ok_or(LedgerError::Corrupt { reason: "the sum over the slots exceeds 64 bits" })
    }

    pub(crate) fn write(&self, device: u32, slot: u32, bytes: u64) -> Result<(), LedgerError> {
        self.inner.write(device, slot, bytes)
    }
}

fn reopen(fd: BorrowedFd<'_>) -> Result<File, LedgerError> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    // `File` opens close-on-exec.
    File::options().read(true).write(true).open(&path).map_err(|source| LedgerError::Reopen { path, source })
}
