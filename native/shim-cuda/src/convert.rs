//! From what programs pass to what we work with, and back.

use cuda_abi::{
    CUcontext, CUevent, CUfunction, CUkernel, CUlibrary, CUmemoryPool, CUmodule, CUresult, CUstream,
};
use wire::handle::{self, Handle};

use crate::entry::Answer;

/// A handle type of CUDA and the wire's handle that it stands for.
pub trait Opaque: Copy {
    /// The wire's handle.
    type Handle: Handle;
    /// The number behind the pointer.
    fn bits(self) -> usize;
    /// From a number.
    fn from_bits(bits: usize) -> Self;
    /// What CUDA answers for a handle that never was one.
    const WRONG: CUresult;
}

macro_rules! opaque {
    ($($cuda:ident = $wire:ident or $wrong:ident),*) => {$(
        impl Opaque for $cuda {
            type Handle = handle::$wire;
            const WRONG: CUresult = CUresult::$wrong;
            fn bits(self) -> usize {
                self.0
            }
            fn from_bits(bits: usize) -> Self {
                Self(bits)
            }
        }
    )*};
}

opaque!(
    CUcontext = Context or INVALID_CONTEXT,
    CUevent = Event or INVALID_HANDLE,
    CUfunction = Function or INVALID_HANDLE,
    CUkernel = Kernel or INVALID_HANDLE,
    CUlibrary = Library or INVALID_HANDLE,
    CUmemoryPool = MemoryPool or INVALID_HANDLE,
    CUmodule = Module or INVALID_HANDLE,
    CUstream = Stream or INVALID_HANDLE
);

/// The handle behind what a program passed.
///
/// Errors: `INVALID_HANDLE` (for contexts `INVALID_CONTEXT`) for null and for numbers of another kind.
pub fn handle<T: Opaque>(opaque: T) -> Answer<T::Handle> {
    let handle = T::Handle::from_raw(opaque.bits() as u64);
    if handle.has_kind() { Ok(handle) } else { Err(T::WRONG) }
}

/// What a program gets for a handle.
pub fn opaque<T: Opaque>(handle: T::Handle) -> T {
    // Only 64-bit programs load this library.
    T::from_bits(usize::try_from(handle.raw()).unwrap_or(0))
}

/// A place for an answer.
///
/// Errors: `INVALID_VALUE` for null.
///
/// # Safety
/// `place` is null, or writable and used by nobody else during the call, as CUDA's interface demands.
pub unsafe fn out<'a, T>(place: *mut T) -> Answer<&'a mut T> {
    // SAFETY: null is caught; the rest is the caller's promise.
    unsafe { place.as_mut() }.ok_or(CUresult::INVALID_VALUE)
}

/// Writes an answer that the program may not want.
///
/// # Safety
/// As for [`out`].
pub unsafe fn write_if<T>(place: *mut T, value: T) {
    // SAFETY: null is caught; the rest is the caller's promise.
    if let Some(place) = unsafe { place.as_mut() } {
        *place = value;
    }
}

/// A string that a program passed.
///
/// Errors: `INVALID_VALUE` for null.
///
/// # Safety
/// `text` is null or NUL-terminated.
pub unsafe fn text<'a>(text: *const std::ffi::c_char) -> Answer<&'a std::ffi::CStr> {
    if text.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null; the termination is the caller's promise.
    Ok(unsafe { std::ffi::CStr::from_ptr(text) })
}
