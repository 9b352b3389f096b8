//! Copies and fills: what the addresses are, whether the caller has to wait, and the moving of bytes.

use std::sync::Arc;

use cuda_abi::{CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_UNIFIED, CUresult};

use crate::capture;
use crate::config::config;
use crate::graph::action::Action;
use crate::guard::Answer;
use crate::memory::{self, Kind};
use crate::stream::{Stream, Work};
use crate::virtual_memory;

/// How a program names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Host,
    Device,
    /// Decided by what the address is.
    Unified,
}

impl Side {
    /// From a `CUmemorytype`.
    ///
    /// # Errors
    /// NOT_SUPPORTED for arrays.
    pub fn of(kind: i32) -> Answer<Self> {
        match kind {
            CU_MEMORYTYPE_HOST => Ok(Self::Host),
            CU_MEMORYTYPE_DEVICE => Ok(Self::Device),
            CU_MEMORYTYPE_UNIFIED => Ok(Self::Unified),
            cuda_abi::CU_MEMORYTYPE_ARRAY => Err(CUresult::NOT_SUPPORTED),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}

/// What an address turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Device,
    Managed,
    Pinned,
    Pageable,
}

/// Checks that `length` bytes at `address` may be copied.
fn place(address: u64, length: u64, side: Side) -> Answer<Place> {
    let end = address.checked_add(length).ok_or(CUresult::INVALID_VALUE)?;
    let Some(allocation) = memory::find(address) else {
        return if address == 0 || side == Side::Device {
            Err(CUresult::INVALID_VALUE)
        } else {
            Ok(Place::Pageable)
        };
    };
    if allocation.kind == Kind::Mapped {
        let is_usable =
            side != Side::Host && virtual_memory::copy_end(address).is_some_and(|last| end <= last);
        return if is_usable { Ok(Place::Device) } else { Err(CUresult::INVALID_VALUE) };
    }
    let place = match allocation.kind {
        Kind::Device | Kind::Mapped | Kind::Variable | Kind::DeviceHeap => Place::Device,
        Kind::Managed => Place::Managed,
        Kind::Pinned | Kind::Registered => Place::Pinned,
    };
    match (place, end <= allocation.end()) {
        (Place::Device, _) if side == Side::Host => Err(CUresult::INVALID_VALUE),
        (_, true) => Ok(place),
        // Pageable memory may lie behind a registered range.
        (Place::Pinned, false) if side != Side::Device => Ok(Place::Pageable),
        (_, false) => Err(CUresult::INVALID_VALUE),
    }
}

/// A box of bytes: `rows` × `slices` rows of `width` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub width: u64,
    pub rows: u64,
    pub slices: u64,
}

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub address: u64,
    pub side: Side,
    /// Bytes from row to row.
    pub pitch: u64,
    /// Bytes from slice to slice.
    pub slice: u64,
}

impl End {
    /// A plain range.
    pub fn linear(address: u64, side: Side) -> Self {
        Self { address, side, pitch: 0, slice: 0 }
    }

    fn place(&self, extent: &Extent) -> Answer<Place> {
        let span = || {
            let rows = self.pitch.checked_mul(extent.rows - 1)?;
            let slices = self.slice.checked_mul(extent.slices - 1)?;
            rows.checked_add(slices)?.checked_add(extent.width)
        };
        place(self.address, span().ok_or(CUresult::INVALID_VALUE)?, self.side)
    }
}

/// A copy, checked.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub destination: End,
    pub source: End,
    pub extent: Extent,
}

impl Transfer {
    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.extent.width == 0 || self.extent.rows == 0 || self.extent.slices == 0
    }

    /// What both ends are.
    fn places(&self) -> Answer<(Place, Place)> {
        let Self { destination, source, extent } = self;
        if (extent.rows > 1 && destination.pitch.min(source.pitch) < extent.width)
            || (extent.slices > 1 && destination.slice.min(source.slice) < extent.width)
        {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok((destination.place(extent)?, source.place(extent)?))
    }

    /// Checks the addresses.
    ///
    /// # Errors
    /// INVALID_VALUE for addresses that are not what the copy says.
    pub fn check(&self) -> Answer {
        if self.is_empty() { Ok(()) } else { self.places().map(|_| ()) }
    }

    /// Copies now; what an address is may have changed since it was checked.
    ///
    /// # Errors
    /// ILLEGAL_ADDRESS.
    pub fn perform(&self) -> Answer {
        if self.is_empty() {
            return Ok(());
        }
        self.places().map_err(|_| CUresult::ILLEGAL_ADDRESS)?;
        // SAFETY: both ends were just checked, or are pageable memory that the program vouches for.
        unsafe { move_box(self.destination, self.source, self.extent) };
        Ok(())
    }
}

/// Copies in the order of a stream. `wait` says that the call is one that CUDA calls synchronous.
///
/// # Errors
/// INVALID_VALUE for addresses that are not what the call says; the context's error after a wait.
pub fn copy(stream: &Arc<Stream>, destination: End, source: End, extent: Extent, wait: bool) -> Answer {
    let transfer = Transfer { destination, source, extent };
    if wait {
        capture::refuse(stream)?;
        capture::unsafe_call()?;
    }
    if transfer.is_empty() {
        return Ok(());
    }
    let (to, from) = transfer.places()?;
    if capture::record(stream, || Ok(Action::Copy(transfer)))? {
        return Ok(());
    }
    let pageable = to == Place::Pageable || from == Place::Pageable;
    let on_device = to == Place::Device && from == Place::Device;
    let work = move |_: &Arc<crate::context::Context>| {
        // SAFETY: both ends were checked, or are pageable memory that the program vouches for until the copy is
        // done; frees wait for the stream.
        unsafe { move_box(destination, source, extent) };
        Ok(())
    };
    if (wait && !on_device) || (pageable && (config().unkind.pageable_waits || to == Place::Pageable)) {
        stream.run(work);
        stream.context.output.flush();
        return stream.context.check();
    }
    if pageable {
        // The source may be reused as soon as the call returns.
        let staged = stage(source, extent);
        let rows =
            End { address: 0, side: Side::Host, pitch: extent.width, slice: extent.width * extent.rows };
        stream.submit(Work::Run(Box::new(move |_| {
            let from = End { address: staged.as_ptr().expose_provenance() as u64, ..rows };
            // SAFETY: the staged rows are as long as the box, and the destination was checked.
            unsafe { move_box(destination, from, extent) };
            Ok(())
        })));
        return Ok(());
    }
    stream.submit(Work::Run(Box::new(work)));
    Ok(())
}

fn stage(source: End, extent: Extent) -> Vec<u8> {
    let mut staged = vec![0_u8; (extent.width * extent.rows * extent.slices) as usize];
    let rows = End {
        address: staged.as_mut_ptr().expose_provenance() as u64,
        side: Side::Host,
        pitch: extent.width,
        slice: extent.width * extent.rows,
    };
    // SAFETY: the vector holds the whole box; the program vouches for its own memory during the call.
    unsafe { move_box(rows, source, extent) };
    staged
}

/// # Safety
/// All bytes of both ends are mapped.
unsafe fn move_box(destination: End, source: End, extent: Extent) {
    for slice in 0..extent.slices {
        for row in 0..extent.rows {
            let to = destination.address + slice * destination.slice + row * destination.pitch;
            let from = source.address + slice * source.slice + row * source.pitch;
            // SAFETY: the caller promises the bytes; the ends may overlap, which `copy` allows.
            unsafe {
                std::ptr::copy(
                    std::ptr::with_exposed_provenance::<u8>(from as usize),
                    std::ptr::with_exposed_provenance_mut::<u8>(to as usize),
                    extent.width as usize,
                );
            }
        }
    }
}

/// A value to fill memory with.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    U8(u8),
    U16(u16),
    U32(u32),
}

impl Value {
    fn size(self) -> u64 {
        match self {
            Self::U8(_) => 1,
            Self::U16(_) => 2,
            Self::U32(_) => 4,
        }
    }
}

/// A fill: `rows` rows of `width` elements.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    pub address: u64,
    pub pitch: u64,
    pub value: Value,
    pub width: u64,
    pub rows: u64,
}

impl Filling {
    /// Whether there is nothing to fill.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.rows == 0
    }

    /// Checks addresses and alignment.
    ///
    /// # Errors
    /// INVALID_VALUE for addresses that are not device memory or not aligned.
    pub fn check(&self) -> Answer<Place> {
        let Self { address, pitch, width, rows, .. } = *self;
        let size = self.value.size();
        let bytes = width.checked_mul(size).ok_or(CUresult::INVALID_VALUE)?;
        if !address.is_multiple_of(size) || (rows > 1 && (!pitch.is_multiple_of(size) || pitch < bytes)) {
            return Err(CUresult::INVALID_VALUE);
        }
        End { address, side: Side::Device, pitch, slice: 0 }.place(&Extent { width: bytes, rows, slices: 1 })
    }

    /// Fills now; what the address is may have changed since it was checked.
    ///
    /// # Errors
    /// ILLEGAL_ADDRESS.
    pub fn perform(&self) -> Answer {
        self.check().map_err(|_| CUresult::ILLEGAL_ADDRESS)?;
        // SAFETY: the range was just checked.
        unsafe { self.fill_rows() };
        Ok(())
    }

    /// # Safety
    /// The range is mapped and aligned for the element.
    unsafe fn fill_rows(&self) {
        for row in 0..self.rows {
            let at = (self.address + row * self.pitch) as usize;
            // SAFETY: the caller promises it.
            unsafe { fill_row(at, self.value, self.width as usize) };
        }
    }
}

/// Fills `rows` rows of `width` elements in the order of a stream. Fills of pinned host memory are waited for
/// where the call is one that CUDA calls synchronous.
///
/// # Errors
/// INVALID_VALUE for addresses that are not device memory or not aligned.
pub fn fill(
    stream: &Arc<Stream>,
    address: u64,
    pitch: u64,
    value: Value,
    extent: (u64, u64),
    wait: bool,
) -> Answer {
    let (width, rows) = extent;
    let filling = Filling { address, pitch, value, width, rows };
    if wait {
        capture::refuse(stream)?;
        capture::unsafe_call()?;
    }
    if filling.is_empty() {
        return Ok(());
    }
    let place = filling.check()?;
    if capture::record(stream, || Ok(Action::Fill(filling)))? {
        return Ok(());
    }
    let work = move |_: &Arc<crate::context::Context>| {
        // SAFETY: the range was checked and is aligned for the element; frees wait for the stream.
        unsafe { filling.fill_rows() };
        Ok(())
    };
    if wait && place != Place::Device {
        stream.run(work);
        return stream.context.check();
    }
    stream.submit(Work::Run(Box::new(work)));
    Ok(())
}

/// # Safety
/// `count` elements at `address` are mapped and aligned.
unsafe fn fill_row(address: usize, value: Value, count: usize) {
    // SAFETY: the caller promises it; all of these are plain stores through raw pointers.
    unsafe {
        match value {
            Value::U8(byte) => std::ptr::with_exposed_provenance_mut::<u8>(address).write_bytes(byte, count),
            Value::U16(half) => {
                let at = std::ptr::with_exposed_provenance_mut::<u16>(address);
                (0..count).for_each(|index| at.add(index).write(half));
            }
            Value::U32(word) => {
                let at = std::ptr::with_exposed_provenance_mut::<u32>(address);
                (0..count).for_each(|index| at.add(index).write(word));
            }
        }
    }
}
