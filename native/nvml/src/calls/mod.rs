//! The calls, by noun, as NVML documents them. What a library exports is generated and leads here.

use std::ffi::{CStr, c_char};

use crate::library::Answer;
use crate::nvmlReturn_t;

/// Declares calls. The body runs behind [`crate::Library`]'s boundary, unless the call belongs to another library.
macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) |$library:pat_param| $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, as NVML documents it.")]
        ///
        /// # Safety
        /// NVML's contract: pointers are null or lead to memory of the documented size.
        #[allow(non_snake_case, unused_unsafe, clippy::missing_safety_doc, reason = "NVML's names; not every body has pointers")]
        pub unsafe fn $name(library: &$crate::Library, $($argument: $type),*) -> $crate::nvmlReturn_t {
            const NAME: &std::ffi::CStr = $crate::calls::terminated(concat!(stringify!($name), "\0"));
            let answered = library.enter(NAME, |$library| {
                // SAFETY: the program keeps NVML's contract for the pointers it passes; null is checked by the
                // functions of this module.
                unsafe { $body }
            });
            match answered {
                Ok(code) => code,
                Err(other) => {
                    type Other = unsafe extern "C" fn($($type),*) -> $crate::nvmlReturn_t;
                    // SAFETY: what another library has by this name has this signature, and the caller keeps the
                    // contract of this call, which it shares.
                    unsafe {
                        let other = std::mem::transmute::<std::ptr::NonNull<std::ffi::c_void>, Other>(other);
                        other($($argument),*)
                    }
                }
            }
        }
    )*};
}

mod device;
mod initialisation;
mod live;
mod processes;
mod system;
#[cfg(test)]
mod tests;

pub use device::*;
pub use initialisation::*;
pub use live::*;
pub use processes::*;
pub use system::*;

/// A name as the loader wants it.
const fn terminated(name: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("the name of a call ends with the only NUL in it"),
    }
}

/// Writes an answer. Errors: INVALID_ARGUMENT for null.
///
/// # Safety
/// `place` is null, or writable and used by nobody else during the call.
unsafe fn put<T>(place: *mut T, value: T) -> Answer {
    if place.is_null() {
        return Err(nvmlReturn_t::INVALID_ARGUMENT);
    }
    // SAFETY: not null; the rest is the caller's promise.
    unsafe { place.write(value) };
    Ok(())
}

/// Copies `value` and its NUL into a buffer of `length` bytes. Errors: INSUFFICIENT_SIZE where it does not fit.
///
/// # Safety
/// `buffer` is null or has `length` writable bytes.
unsafe fn put_text(value: &str, buffer: *mut c_char, length: u32) -> Answer {
    if buffer.is_null() {
        return Err(nvmlReturn_t::INVALID_ARGUMENT);
    }
    let room = usize::try_from(length).unwrap_or(0);
    if value.len() >= room {
        return Err(nvmlReturn_t::INSUFFICIENT_SIZE);
    }
    // SAFETY: text and NUL fit by the line above.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr(), buffer.cast(), value.len());
        buffer.add(value.len()).write(0);
    }
    Ok(())
}

/// A text that a program passed. Errors: INVALID_ARGUMENT for null, NOT_FOUND for what cannot be one of ours.
///
/// # Safety
/// `text` is null or NUL-terminated.
unsafe fn text<'a>(text: *const c_char) -> Answer<&'a str> {
    if text.is_null() {
        return Err(nvmlReturn_t::INVALID_ARGUMENT);
    }
    // SAFETY: not null; the termination is the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| nvmlReturn_t::NOT_FOUND)
}

/// Fills an array member of a structure with text, cut if need be, always terminated.
fn fill<const N: usize>(value: &str) -> [c_char; N] {
    let mut out = [0; N];
    for (place, byte) in out.iter_mut().take(N - 1).zip(value.bytes()) {
        *place = byte.cast_signed();
    }
    out
}

/// The version number of a structure, as NVML's macro makes it: size, and version in the highest byte.
const fn version_of<T>(version: u32) -> u32 {
    #[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "structures are small")]
    let size = size_of::<T>() as u32;
    size | version << 24
}
