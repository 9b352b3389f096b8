//! GPU memory accounted across processes.
//!
//! Device memory of the simulated GPU is ordinary memory of each process, so what all processes use together is
//! kept in a small shared file: one slot per process with its bytes per device. A slot is keyed by process id
//! *and* start time; the slots of processes that no longer live count for nothing and are taken over, which is
//! why `kill -9` leaves nothing taken. Every change happens under a lock of the file.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;

use crate::config::{MAX_DEVICES, config, log};

const MAGIC: u64 = u64::from_le_bytes(*b"FPSIMG01");
const SLOTS: usize = 512;

#[repr(C)]
struct Slot {
    pid: AtomicU32,
    _pad: AtomicU32,
    started: AtomicU64,
    used: [AtomicU64; MAX_DEVICES],
}

#[repr(C)]
struct Shared {
    magic: AtomicU64,
    slots: [Slot; SLOTS],
}

struct Book {
    file: File,
    shared: &'static Shared,
    /// This process's slot; taken at the first reservation.
    own: Mutex<Option<usize>>,
}

static BOOK: LazyLock<Option<Book>> = LazyLock::new(Book::open);

/// The file lock, for as long as it lives.
struct Locked<'a> {
    book: &'a Book,
    own: MutexGuard<'a, Option<usize>>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.book.lock_file(libc::F_UNLCK);
    }
}

/// Opens the shared file, made if need be. One that belongs to somebody else is refused: its owner could change
/// the accounts, or cut the file under our mapping.
fn open_file() -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(&config().state_path)
        .inspect_err(|error| log(|| format!("{}: {error}", config().state_path.display())))
        .ok()?;
    // SAFETY: `geteuid` cannot fail.
    let user = unsafe { libc::geteuid() };
    let owner = file.metadata().ok()?.uid();
    if owner != user {
        log(|| format!("{} belongs to user {owner}", config().state_path.display()));
        return None;
    }
    Some(file)
}

impl Book {
    fn open() -> Option<Self> {
        let file = open_file()?;
        file.set_len(size_of::<Shared>() as u64).ok()?;
        // SAFETY: a new shared mapping of a file that is at least this long; nothing else is replaced.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is page-aligned, large enough, never unmapped, and all fields are atomics that any
        // bit pattern is valid for.
        let shared: &'static Shared = unsafe { &*address.cast::<Shared>() };
        let book = Self { file, shared, own: Mutex::new(None) };
        {
            let _locked = book.lock();
            if shared.magic.load(Ordering::SeqCst) != MAGIC {
                for slot in &shared.slots {
                    slot.pid.store(0, Ordering::SeqCst);
                }
                shared.magic.store(MAGIC, Ordering::SeqCst);
            }
        }
        Some(book)
    }

    fn lock(&self) -> Locked<'_> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock_file(libc::F_WRLCK);
        Locked { book: self, own }
    }

    fn lock_file(&self, kind: libc::c_int) {
        // SAFETY: `flock` is plain numbers, for which zeros are valid.
        let mut request: libc::flock = unsafe { std::mem::zeroed() };
        request.l_type = kind as libc::c_short;
        request.l_whence = libc::SEEK_SET as libc::c_short;
        // SAFETY: the descriptor is open and the request outlives the call.
        while unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const request) } == -1 {
            if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                break;
            }
        }
    }
}

impl Locked<'_> {
    /// This process's slot, taken if need be.
    fn own_slot(&mut self) -> Option<&'static Slot> {
        let slots = &self.book.shared.slots;
        if let Some(index) = *self.own {
            return Some(&slots[index]);
        }
        let index = slots.iter().position(|slot| !is_live(slot))?;
        let slot = &slots[index];
        for used in &slot.used {
            used.store(0, Ordering::SeqCst);
        }
        let pid = std::process::id();
        slot.started.store(start_time(pid).unwrap_or(0), Ordering::SeqCst);
        slot.pid.store(pid, Ordering::SeqCst);
        *self.own = Some(index);
        Some(slot)
    }

    /// Bytes used on a device by all live processes; the slots of dead ones are emptied on the way.
    fn used(&self, device: usize) -> u64 {
        let mut sum = 0_u64;
        for (index, slot) in self.book.shared.slots.iter().enumerate() {
            if slot.pid.load(Ordering::SeqCst) == 0 {
                continue;
            }
            if *self.own == Some(index) || is_live(slot) {
                sum = sum.saturating_add(slot.used[device].load(Ordering::SeqCst));
            } else {
                slot.pid.store(0, Ordering::SeqCst);
            }
        }
        sum
    }
}

fn is_live(slot: &Slot) -> bool {
    let pid = slot.pid.load(Ordering::SeqCst);
    pid != 0 && start_time(pid) == Some(slot.started.load(Ordering::SeqCst))
}

/// When a process was started, in clock ticks since boot; `None` for one that is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end: state is the third one.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Takes bytes of a device for this process.
///
/// # Errors
/// OUT_OF_MEMORY when all processes together would use more than `total`.
pub fn reserve(device: usize, bytes: u64, total: u64) -> Result<(), CUresult> {
    let book = BOOK.as_ref().ok_or(CUresult::OPERATING_SYSTEM)?;
    let mut locked = book.lock();
    let slot = locked.own_slot().ok_or(CUresult::OPERATING_SYSTEM)?;
    if locked.used(device).saturating_add(bytes) > total {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    slot.used[device].fetch_add(bytes, Ordering::SeqCst);
    Ok(())
}

/// Gives bytes back.
pub fn release(device: usize, bytes: u64) {
    if let Some(book) = BOOK.as_ref() {
        let mut locked = book.lock();
        if let Some(slot) = locked.own_slot() {
            let left = slot.used[device].load(Ordering::SeqCst).saturating_sub(bytes);
            slot.used[device].store(left, Ordering::SeqCst);
        }
    }
}

/// Bytes of a device used by this process.
pub fn used_by_this_process(device: usize) -> u64 {
    BOOK.as_ref().map_or(0, |book| {
        let locked = book.lock();
        locked.own.map_or(0, |index| book.shared.slots[index].used[device].load(Ordering::SeqCst))
    })
}

/// Bytes of a device used by all live processes together.
pub fn used(device: usize) -> u64 {
    BOOK.as_ref().map_or(0, |book| book.lock().used(device))
}

/// Live processes that use a device, with their bytes.
pub fn processes(device: usize) -> Vec<(u32, u64)> {
    let Some(book) = BOOK.as_ref() else { return Vec::new() };
    let _locked = book.lock();
    let slots = book.shared.slots.iter();
    slots
        .filter(|slot| is_live(slot))
        .map(|slot| (slot.pid.load(Ordering::SeqCst), slot.used[device].load(Ordering::SeqCst)))
        .filter(|(_, used)| *used > 0)
        .collect()
}
