//! The simulated devices: identity, address window, primary context.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cuda_abi::CUresult;
use cuda_abi::integrity::DeviceIdentity;
use simgpu_machine::identity::uuid_of;
pub use simgpu_machine::identity::{DRIVER_VERSION, NAME, name};

use crate::config::config;
use crate::context::Context;
use crate::guard::Answer;
use crate::heap::Heap;
use crate::pool::Pool;

/// Compute capability 8.0.
pub const ARCHITECTURE: u32 = 80;

/// The state of a device's primary context.
#[derive(Default)]
pub struct Primary {
    pub context: Option<Arc<Context>>,
    pub retains: u32,
    pub flags: u32,
}

/// One simulated device.
pub struct Device {
    /// Number that the program uses.
    pub ordinal: i32,
    /// Number before `CUDA_VISIBLE_DEVICES`.
    pub physical: usize,
    pub uuid: [u8; 16],
    pub total: u64,
    pub heap: Mutex<Heap>,
    pub primary: Mutex<Primary>,
    pub default_pool: Arc<Pool>,
    pub current_pool: Mutex<Arc<Pool>>,
}

impl Device {
    /// PCI bus number; domain and device number are 0.
    pub fn pci_bus(&self) -> i32 {
        simgpu_machine::identity::pci_bus(self.physical)
    }

    /// As the integrity check wants it.
    pub fn identity(&self) -> DeviceIdentity {
        DeviceIdentity { uuid: self.uuid, pci_domain: 0, pci_bus: self.pci_bus(), pci_device: 0 }
    }

    /// `0000:01:00.0`
    pub fn pci_text(&self) -> String {
        format!("0000:{:02x}:00.0", self.pci_bus())
    }
}

static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();

/// All devices that the program sees; empty before `cuInit`.
pub fn devices() -> &'static [Device] {
    DEVICES.get().map_or(&[], Vec::as_slice)
}

/// The device with this number.
pub fn device(ordinal: i32) -> Answer<&'static Device> {
    usize::try_from(ordinal).ok().and_then(|index| devices().get(index)).ok_or(CUresult::INVALID_DEVICE)
}

/// Makes the devices; again and again is the same as once.
pub fn initialise() -> Answer {
    if DEVICES.get().is_none() {
        let all: Vec<[u8; 16]> = (0..config().devices).map(uuid_of).collect();
        let visible = visible(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref(), &all);
        let made: Answer<Vec<Device>> = visible
            .into_iter()
            .enumerate()
            .map(|(ordinal, physical)| make(ordinal, physical, all[physical]))
            .collect();
        let _ = DEVICES.set(made?);
    }
    if devices().is_empty() { Err(CUresult::NO_DEVICE) } else { Ok(()) }
}

fn make(ordinal: usize, physical: usize, uuid: [u8; 16]) -> Answer<Device> {
    let total = config().memory_of(physical);
    // Four times the memory: fragments of addresses never make an allocation fail that memory is left for.
    let window = total.saturating_mul(4).max(1 << 30).next_multiple_of(2 << 20);
    let start = reserve_window(ordinal, window)?;
    let pool = Arc::new(Pool::new(i32::try_from(ordinal).unwrap_or(0), 0));
    crate::pool::POOLS.insert(&pool);
    Ok(Device {
        ordinal: i32::try_from(ordinal).unwrap_or(0),
        physical,
        uuid,
        total,
        heap: Mutex::new(Heap::new(start, window)),
        primary: Mutex::default(),
        default_pool: Arc::clone(&pool),
        current_pool: Mutex::new(pool),
    })
}

/// Reserves addresses at a multiple of 2 MiB. Pages get memory when they are first touched; forked children do
/// not inherit them.
///
/// They lie where Linux maps nothing by itself: a remote client takes the same addresses in its own process, and
/// each that it uses already is memory that it cannot have.
fn reserve_window(ordinal: usize, length: u64) -> Answer<u64> {
    const ALIGN: u64 = 2 << 20;
    const FIRST: usize = 0x2000_0000_0000;
    const SPREAD: usize = 0x0fff_ffe0_0000;
    let mapped = usize::try_from(length + ALIGN).map_err(|_| CUresult::OUT_OF_MEMORY)?;
    // Another place in each process, as this library is: programs must not get used to one.
    let chance = (reserve_window as *const ()).addr() & SPREAD;
    let hint = FIRST + chance + ordinal * mapped.next_multiple_of(2 << 20);
    // SAFETY: a fresh anonymous mapping replaces nothing: without MAP_FIXED the address is a wish.
    let address = unsafe {
        libc::mmap(
            std::ptr::without_provenance_mut(hint),
            mapped,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    // SAFETY: the range is the mapping just made.
    unsafe {
        libc::madvise(address, mapped, libc::MADV_DONTFORK);
        libc::madvise(address, mapped, libc::MADV_DONTDUMP);
    }
    Ok((address.expose_provenance() as u64).next_multiple_of(ALIGN))
}

/// What `CUDA_VISIBLE_DEVICES` leaves: numbers or (beginnings of) UUIDs, up to the first that names nothing.
fn visible(setting: Option<&str>, all: &[[u8; 16]]) -> Vec<usize> {
    let Some(setting) = setting else {
        return (0..all.len()).collect();
    };
    let mut chosen = Vec::new();
    for item in setting.split(',').map(str::trim) {
        let found = match item.strip_prefix("GPU-") {
            Some(prefix) => {
                let prefix = prefix.to_ascii_lowercase();
                let mut matching = all.iter().enumerate().filter(|(_, uuid)| {
                    !prefix.is_empty() && cuda_abi::export_tables::uuid_text(uuid).starts_with(&prefix)
                });
                // A beginning that fits two devices names neither.
                match (matching.next(), matching.next()) {
                    (Some((index, _)), None) => Some(index),
                    _ => None,
                }
            }
            None => item.parse().ok().filter(|index| *index < all.len()),
        };
        match found {
            Some(index) if !chosen.contains(&index) => chosen.push(index),
            Some(_) => return Vec::new(),
            None => break,
        }
    }
    chosen
}

/// Free and total bytes of a device, over all processes.
pub fn memory_info(device: &Device) -> (u64, u64) {
    (device.total.saturating_sub(crate::accounting::used(device.physical)), device.total)
}

/// Locks a mutex, also one that a panic left behind.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [[u8; 16]; 3] = [[0x11; 16], [0x12; 16], [0x22; 16]];

    #[test]
    fn numbers_choose_and_order_devices() {
        assert_eq!(visible(None, &ALL), [0, 1, 2]);
        assert_eq!(visible(Some("2,0"), &ALL), [2, 0]);
        assert_eq!(visible(Some(""), &ALL), [0; 0]);
        assert_eq!(visible(Some("1,9,0"), &ALL), [1]);
        assert_eq!(visible(Some("1,1"), &ALL), [0; 0]);
    }

    #[test]
    fn uuids_may_be_shortened_while_they_name_one_device() {
        assert_eq!(visible(Some("GPU-22"), &ALL), [2]);
        assert_eq!(visible(Some("GPU-1"), &ALL), [0; 0]);
        assert_eq!(visible(Some("GPU-12121212-1212"), &ALL), [1]);
    }
}
