//! Pinned host memory of the worker: what the GPU copies from and to while the issuing thread goes on.

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use driver::Driver;

/// Sizes in which buffers are made: most copies are tiny, the large ones come in pieces of at most 4 MiB, some with a
/// little before them ([`crate::bulk`]).
const SIZES: [usize; 3] = [4 << 10, 256 << 10, (4 << 20) + crate::bulk::ROOM];

/// Bytes that may be in use at once; beyond that a copy waits for its turn, unless its stream has none at all: a stream
/// that stands still must not stop others.
const LIMIT: usize = 256 << 20;

/// Bytes that one stream may use, unless it has none.
const SHARE: usize = LIMIT / 2;

/// A stream, for whose copies a buffer is used: index of its context, and the driver's stream.
pub type Owner = (u32, usize);

/// `CU_MEMHOSTALLOC_PORTABLE`
const PORTABLE: u32 = 1;

/// A buffer.
#[derive(Debug)]
pub struct Buffer {
    address: *mut c_void,
    size: usize,
    context: u32,
    owner: Owner,
}

// SAFETY: a buffer is plain memory with one owner.
unsafe impl Send for Buffer {}

/// Bytes in a buffer that are on their way to the client. The buffer goes back when they need not be sent again.
#[derive(Debug)]
pub struct Lent {
    staging: Arc<Staging>,
    buffer: Option<Buffer>,
    length: usize,
}

impl Lent {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.bytes(self.length))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let context = buffer.context;
            self.staging.give(buffer);
            let mut state = self.staging.state();
            if let Some(lent) = state.lent.get_mut(&context) {
                *lent -= 1;
                if *lent == 0 {
                    state.lent.remove(&context);
                }
            }
        }
    }
}

/// All buffers that are not in use.
#[derive(Debug)]
pub struct Staging {
    driver: Arc<Driver>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Buffer>,
    in_use: usize,
    /// The same by stream.
    shares: HashMap<Owner, usize>,
    /// How many buffers of a context the client is being sent.
    lent: HashMap<u32, usize>,
    /// Contexts that exist; those that are gone took their buffers with them.
    alive: HashSet<u32>,
}

impl Buffer {
    /// Where it is.
    pub fn address(&self) -> *mut c_void {
        self.address
    }

    /// Its first `length` bytes.
    pub fn bytes(&self, length: usize) -> &[u8] {
        let length = length.min(self.size);
        // SAFETY: the buffer has `size` bytes that the driver allocated; the caller waited for the copy into it.
        unsafe { std::slice::from_raw_parts(self.address.cast(), length) }
    }

    /// Its first `length` bytes, to be written.
    pub fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        let length = length.min(self.size);
        // SAFETY: the buffer has `size` bytes that the driver allocated, and one owner.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), length) }
    }

    /// Puts `data`, which must fit, at its start.
    pub fn fill(&mut self, data: &[u8]) {
        let length = data.len().min(self.size);
        // SAFETY: the buffer has `size` bytes and one owner; `data` is elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.address.cast(), length) };
    }
}

impl State {
    fn use_more(&mut self, owner: Owner, size: usize) {
        self.in_use += size;
        *self.shares.entry(owner).or_default() += size;
    }

    fn use_less(&mut self, owner: Owner, size: usize) {
        self.in_use -= size;
        if let Some(share) = self.shares.get_mut(&owner) {
            *share -= size;
            if *share == 0 {
                self.shares.remove(&owner);
            }
        }
    }
}

impl Staging {
    /// No buffers yet.
    pub fn new(driver: Arc<Driver>) -> Staging {
        Staging { driver, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least `size` bytes for a stream, made in the current context, which is the client's `context`.
    /// `None` when too many are in use.
    pub fn take(&self, size: usize, context: u32, owner: Owner) -> Result<Option<Buffer>, CUresult> {
        let size = SIZES.into_iter().find(|class| *class >= size).unwrap_or(size);
        let mut state = self.state();
        let share = state.shares.get(&owner).copied().unwrap_or(0);
        if share > 0 && (state.in_use + size > LIMIT || share + size > SHARE) {
            return Ok(None);
        }
        state.use_more(owner, size);
        let fitting = state.free.iter().position(|buffer| buffer.size == size && buffer.context == context);
        if let Some(position) = fitting {
            let buffer = state.free.swap_remove(position);
            return Ok(Some(Buffer { owner, ..buffer }));
        }
        drop(state);
        let mut address = std::ptr::null_mut();
        // SAFETY: `address` is a valid place.
        let code = unsafe { self.driver.cuMemHostAlloc(&raw mut address, size, PORTABLE) };
        if !code.is_success() {
            self.state().use_less(owner, size);
            return Err(code);
        }
        Ok(Some(Buffer { address, size, context, owner }))
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: Buffer) {
        let mut state = self.state();
        state.use_less(buffer.owner, buffer.size);
        if state.alive.contains(&buffer.context) {
            state.free.push(buffer);
        }
    }

    /// Gives a buffer up that the GPU may still be using, nobody knows for how long: better lost than overwritten.
    pub fn lose(&self, buffer: Buffer) {
        self.state().use_less(buffer.owner, buffer.size);
    }

    /// Lets the first `length` bytes of `buffer` go to the client.
    pub fn lend(self: &Arc<Self>, buffer: Buffer, length: usize) -> Lent {
        *self.state().lent.entry(buffer.context).or_default() += 1;
        Lent { staging: Arc::clone(self), buffer: Some(buffer), length }
    }

    /// Whether buffers of a context are on their way to the client: it must not end meanwhile.
    pub fn has_lent(&self, context: u32) -> bool {
        self.state().lent.contains_key(&context)
    }

    /// The buffers of a context went with it.
    pub fn context_gone(&self, context: u32) {
        let mut state = self.state();
        state.free.retain(|buffer| buffer.context != context);
        state.alive.remove(&context);
    }

    /// A context with this index exists.
    pub fn context_made(&self, context: u32) {
        self.state().alive.insert(context);
    }
}
