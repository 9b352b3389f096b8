//! Every access of a kernel to memory. The only module with unsafe code: global memory is host memory
//! that the [`Device`] vouches for, shared and local memory and parameters are plain byte buffers.

#![allow(unsafe_code, reason = "global memory is reached through raw host addresses, checked here")]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::device::{Device, MemoryRange};
use crate::error::FaultKind;
use crate::races::{AccessKind, Watch};
use crate::value::Value;

/// Generic addresses of shared memory start here. User-space pointers stay below 2^47.
pub const SHARED_WINDOW: u64 = 1 << 48;
/// Generic addresses of the thread's local memory start here.
pub const LOCAL_WINDOW: u64 = 2 << 48;
/// Generic addresses of the kernel's parameters start here.
pub const PARAM_WINDOW: u64 = 3 << 48;

/// A fault, boxed to keep the successful path small.
pub type Trouble = Box<FaultKind>;

/// Global and constant memory.
pub const GLOBAL: u8 = 0;
/// Shared memory.
pub const SHARED: u8 = 1;
/// The thread's local memory.
pub const LOCAL: u8 = 2;
/// The kernel's parameters.
pub const PARAM: u8 = 3;
/// Any of them, by the address.
pub const GENERIC: u8 = 4;

/// An unsigned machine word.
pub(crate) trait Word: Value + Eq + Default {
    const SIZE: u64;
    fn read(bytes: &[u8]) -> Self;
    fn write(self, bytes: &mut [u8]);
    /// As a slot, sign-extended.
    fn signed(self) -> u64;
    /// # Safety
    /// `address` is valid for reads and aligned.
    unsafe fn load(address: u64) -> Self;
    /// # Safety
    /// `address` is valid for writes and aligned.
    unsafe fn store(address: u64, value: Self);
    /// # Safety
    /// `address` is valid for reads and writes and aligned.
    unsafe fn update(address: u64, change: &mut dyn FnMut(Self) -> Option<Self>) -> Self;
}

macro_rules! words {
    ($($type:ty, $signed:ty, $atomic:ty;)*) => {$(
        impl Word for $type {
            const SIZE: u64 = size_of::<$type>() as u64;
            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$type>()];
                word.copy_from_slice(bytes);
                <$type>::from_le_bytes(word)
            }
            #[inline(always)]
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn signed(self) -> u64 {
                self as $signed as i64 as u64
            }
            #[inline(always)]
            unsafe fn load(address: u64) -> Self {
                // SAFETY: the caller vouches for the address; relaxed atomics make races of device threads defined.
                unsafe { <$atomic>::from_ptr(std::ptr::with_exposed_provenance_mut(address as usize)) }.load(Ordering::Relaxed)
            }
            #[inline(always)]
            unsafe fn store(address: u64, value: Self) {
                // SAFETY: as above.
                unsafe { <$atomic>::from_ptr(std::ptr::with_exposed_provenance_mut(address as usize)) }.store(value, Ordering::Relaxed);
            }
            unsafe fn update(address: u64, change: &mut dyn FnMut(Self) -> Option<Self>) -> Self {
                // SAFETY: as above.
                let cell = unsafe { <$atomic>::from_ptr(std::ptr::with_exposed_provenance_mut(address as usize)) };
                match cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change) {
                    Ok(old) | Err(old) => old,
                }
            }
        }
    )*};
}

words! {
    u8, i8, AtomicU8;
    u16, i16, AtomicU16;
    u32, i32, AtomicU32;
    u64, i64, AtomicU64;
}

const NOWHERE: MemoryRange = MemoryRange { start: 0, end: 0, writable: false };

/// A worker's view of global memory: the device's ranges, the most recently used ones cached.
pub struct Global<'d> {
    /// The device.
    pub device: &'d dyn Device,
    cache: [MemoryRange; 6],
    victim: usize,
    generation: u64,
    /// The grid barrier's memory of a cooperative launch.
    workspace: MemoryRange,
    /// What compiled code knows of ranges. It holds what an engine writes there, until ranges may have been withdrawn.
    pub sites: Vec<Site>,
}

/// A range as one instruction of compiled code knows it: an access is inside when `(address - start)`, divided by the
/// access's alignment, is below `count`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Site {
    /// First address.
    pub start: u64,
    /// Number of aligned places; 0 where nothing is known.
    pub count: u64,
}

impl<'d> Global<'d> {
    pub(crate) fn new(device: &'d dyn Device, workspace: Option<&'d [AtomicU64]>) -> Self {
        let workspace = workspace.map_or(NOWHERE, |cells| {
            let start = cells.as_ptr().expose_provenance() as u64;
            MemoryRange { start, end: start + size_of_val(cells) as u64, writable: true }
        });
        Self {
            device,
            cache: [NOWHERE; 6],
            victim: 0,
            generation: device.generation(),
            workspace,
            sites: Vec::new(),
        }
    }

    /// Forgets the cached ranges if the device withdrew some.
    pub fn refresh(&mut self) {
        let generation = self.device.generation();
        if generation != self.generation {
            self.forget();
            self.generation = generation;
        }
    }

    /// Forgets all ranges.
    pub fn forget(&mut self) {
        self.cache = [NOWHERE; 6];
        self.sites.fill(Site::default());
    }

    #[inline(always)]
    fn check(&mut self, address: u64, size: u64, write: bool) -> Result<(), Trouble> {
        for range in &self.cache {
            if address >= range.start
                && address < range.end
                && range.end - address >= size
                && (range.writable || !write)
            {
                return Ok(());
            }
        }
        self.miss(address, size, write)
    }

    /// The range that contains an address that was just found valid.
    pub fn range(&self, address: u64, write: bool) -> Option<MemoryRange> {
        let fits =
            |range: &&MemoryRange| (range.start..range.end).contains(&address) && (range.writable || !write);
        self.cache.iter().find(fits).copied()
    }

    #[cold]
    fn miss(&mut self, address: u64, size: u64, write: bool) -> Result<(), Trouble> {
        let workspace =
            (self.workspace.start..self.workspace.end).contains(&address).then_some(self.workspace);
        if let Some(range) = workspace.or_else(|| self.device.range(address))
            && address >= range.start
            && range.end.checked_sub(address).is_some_and(|left| left >= size)
            && (range.writable || !write)
        {
            self.cache[self.victim] = range;
            self.victim = (self.victim + 1) % self.cache.len();
            return Ok(());
        }
        let nearest = self.device.range(address).or_else(|| self.device.nearest(address));
        Err(illegal(address, size, write, "global", nearest))
    }
}

#[cold]
fn illegal(
    address: u64,
    size: u64,
    write: bool,
    space: &'static str,
    nearest: Option<MemoryRange>,
) -> Trouble {
    Box::new(FaultKind::IllegalAddress { address, size: size as u32, write, space, nearest })
}

/// A generic address, by its space: `shared 0x10`.
pub(crate) fn describe_address(address: u64) -> String {
    let offset = address & ((1 << 48) - 1);
    match address & !((1 << 48) - 1) {
        SHARED_WINDOW => format!("shared {offset:#x}"),
        LOCAL_WINDOW => format!("local {offset:#x}"),
        PARAM_WINDOW => format!("param {offset:#x}"),
        _ => format!("{address:#x}"),
    }
}

/// What a running thread can reach.
pub struct Memory<'a, 'd> {
    /// Shared memory of the block.
    pub shared: &'a mut [u8],
    /// Local memory of the thread.
    pub local: &'a mut [u8],
    /// Parameters of the kernel.
    pub params: &'a [u8],
    /// Everything else.
    pub global: &'a mut Global<'d>,
    /// A compare-and-swap did not find what it expected.
    pub contended: bool,
    /// Looks for races in shared memory. Compiled code does not tell it of its accesses.
    pub watch: Option<&'a mut Watch>,
}

/// A checked place.
#[derive(Debug, Clone, Copy)]
pub enum Spot {
    /// Host address, which is the address itself.
    Global(u64),
    /// Offset in shared memory.
    Shared(usize),
    /// Offset in local memory.
    Local(usize),
    /// Offset in the parameters.
    Param(usize),
}

impl Memory<'_, '_> {
    #[inline(always)]
    fn locate<const SPACE: u8>(&mut self, address: u64, size: u64, write: bool) -> Result<Spot, Trouble> {
        if address & (size - 1) != 0 {
            return Err(Box::new(FaultKind::MisalignedAddress { address, size: size as u32 }));
        }
        let (space, offset) = if SPACE == GENERIC {
            let space = match address >> 48 {
                0 => GLOBAL,
                1 => SHARED,
                2 => LOCAL,
                3 => PARAM,
                _ => return Err(illegal(address, size, write, "generic", None)),
            };
            (space, if space == GLOBAL { address } else { address & ((1 << 48) - 1) })
        } else {
            (SPACE, address)
        };
        let inside = |length: usize| offset < length as u64 && length as u64 - offset >= size;
        match space {
            GLOBAL => {
                self.global.check(address, size, write)?;
                Ok(Spot::Global(address))
            }
            SHARED if inside(self.shared.len()) => Ok(Spot::Shared(offset as usize)),
            LOCAL if inside(self.local.len()) => Ok(Spot::Local(offset as usize)),
            PARAM if inside(self.params.len()) && !write => Ok(Spot::Param(offset as usize)),
            _ => Err(self.outside(space, offset, size, write)),
        }
    }

    #[cold]
    fn outside(&self, space: u8, offset: u64, size: u64, write: bool) -> Trouble {
        let (name, length) = match space {
            SHARED => ("shared", self.shared.len()),
            LOCAL => ("local", self.local.len()),
            _ => ("param", self.params.len()),
        };
        let nearest =
            (length > 0).then_some(MemoryRange { start: 0, end: length as u64, writable: space != PARAM });
        illegal(offset, size, write, name, nearest)
    }

    /// Checks an access of `size` bytes (a power of two, and the alignment) in a space.
    ///
    /// # Errors
    /// What the access would fail with.
    pub fn check(&mut self, space: u8, address: u64, size: u64, write: bool) -> Result<Spot, Trouble> {
        match space {
            GLOBAL => self.locate::<GLOBAL>(address, size, write),
            SHARED => self.locate::<SHARED>(address, size, write),
            LOCAL => self.locate::<LOCAL>(address, size, write),
            PARAM => self.locate::<PARAM>(address, size, write),
            _ => self.locate::<GENERIC>(address, size, write),
        }
    }

    #[inline(always)]
    fn note(&mut self, spot: Spot, size: u64, kind: AccessKind) {
        if let Spot::Shared(at) = spot
            && let Some(watch) = &mut self.watch
        {
            watch.access(at, size as usize, kind);
        }
    }

    /// Reads `N` adjacent words; the address must be aligned to all of them together.
    #[inline(always)]
    pub(crate) fn read<const SPACE: u8, W: Word, const N: usize>(
        &mut self,
        address: u64,
    ) -> Result<[W; N], Trouble> {
        let spot = self.locate::<SPACE>(address, W::SIZE * N as u64, false)?;
        self.note(spot, W::SIZE * N as u64, AccessKind::Read);
        let mut words = [W::default(); N];
        for (index, word) in words.iter_mut().enumerate() {
            let step = index * W::SIZE as usize;
            let range = |at: usize| at + step..at + step + W::SIZE as usize;
            *word = match spot {
                // SAFETY: `locate` found the whole access inside a live range, and aligned.
                Spot::Global(address) => unsafe { W::load(address + step as u64) },
                Spot::Shared(at) => W::read(&self.shared[range(at)]),
                Spot::Local(at) => W::read(&self.local[range(at)]),
                Spot::Param(at) => W::read(&self.params[range(at)]),
            };
        }
        Ok(words)
    }

    /// Writes `N` adjacent words.
    #[inline(always)]
    pub(crate) fn write<const SPACE: u8, W: Word, const N: usize>(
        &mut self,
        address: u64,
        words: [W; N],
    ) -> Result<(), Trouble> {
        let spot = self.locate::<SPACE>(address, W::SIZE * N as u64, true)?;
        self.note(spot, W::SIZE * N as u64, AccessKind::Write);
        for (index, word) in words.into_iter().enumerate() {
            let step = index * W::SIZE as usize;
            let range = |at: usize| at + step..at + step + W::SIZE as usize;
            match spot {
                // SAFETY: `locate` found the whole access inside a live writable range, and aligned.
                Spot::Global(address) => unsafe { W::store(address + step as u64, word) },
                Spot::Shared(at) => word.write(&mut self.shared[range(at)]),
                Spot::Local(at) => word.write(&mut self.local[range(at)]),
                Spot::Param(_) => {}
            }
        }
        Ok(())
    }

    /// Replaces a word atomically and returns the old one; `None` leaves it.
    pub(crate) fn update<W: Word>(
        &mut self,
        address: u64,
        change: &mut dyn FnMut(W) -> Option<W>,
    ) -> Result<W, Trouble> {
        let spot = self.locate::<GENERIC>(address, W::SIZE, true)?;
        self.note(spot, W::SIZE, AccessKind::Atomic);
        self.update_at(spot, change)
    }

    /// The same for a barrier in shared memory, which orders other accesses and races with none.
    pub(crate) fn update_barrier(
        &mut self,
        address: u64,
        change: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Result<u64, Trouble> {
        let spot = self.locate::<GENERIC>(address, 8, true)?;
        self.update_at(spot, change)
    }

    fn update_at<W: Word>(
        &mut self,
        spot: Spot,
        change: &mut dyn FnMut(W) -> Option<W>,
    ) -> Result<W, Trouble> {
        match spot {
            // SAFETY: `locate` found the access inside a live writable range, and aligned.
            Spot::Global(address) => Ok(unsafe { W::update(address, change) }),
            // A block runs on one worker: nobody else touches its shared or local memory.
            Spot::Shared(at) => Ok(update_bytes(&mut self.shared[at..at + W::SIZE as usize], change)),
            Spot::Local(at) => Ok(update_bytes(&mut self.local[at..at + W::SIZE as usize], change)),
            Spot::Param(at) => Err(self.outside(PARAM, at as u64, W::SIZE, true)),
        }
    }

    /// A zero-terminated string at a generic address.
    pub(crate) fn text(&mut self, address: u64) -> Result<Vec<u8>, Trouble> {
        let mut text = Vec::new();
        while text.len() < 1 << 16 {
            let [byte] = self.read::<GENERIC, u8, 1>(address.wrapping_add(text.len() as u64))?;
            if byte == 0 {
                break;
            }
            text.push(byte);
        }
        Ok(text)
    }
}

fn update_bytes<W: Word>(bytes: &mut [u8], change: &mut dyn FnMut(W) -> Option<W>) -> W {
    let old = W::read(bytes);
    if let Some(new) = change(old) {
        new.write(bytes);
    }
    old
}
