//! The options of just-in-time compilation: of interest are the two logs.

use std::ffi::{c_char, c_void};

use cuda_abi::{
    CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER,
    CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_WALL_TIME, CUjit_option, CUresult,
};

use crate::guard::Answer;

struct Log {
    buffer: *mut c_char,
    capacity: usize,
    /// Where the number of bytes written goes.
    size_slot: *mut *mut c_void,
}

impl Log {
    const NONE: Self = Self { buffer: std::ptr::null_mut(), capacity: 0, size_slot: std::ptr::null_mut() };

    /// # Safety
    /// Buffer, capacity and slot are as the program passed them.
    unsafe fn write(&self, text: &str) {
        let mut length = 0;
        if !self.buffer.is_null() && self.capacity > 0 {
            length = text.len().min(self.capacity - 1);
            // SAFETY: the program says that the buffer has `capacity` bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr(), self.buffer.cast(), length);
                self.buffer.add(length).write(0);
            }
        }
        if !self.size_slot.is_null() {
            // SAFETY: the slot is an element of the program's array of option values.
            unsafe { self.size_slot.write(std::ptr::without_provenance_mut(length)) };
        }
    }
}

/// The logs a program asked for.
pub struct Logs {
    info: Log,
    error: Log,
    wall_time: *mut *mut c_void,
}

impl Logs {
    /// No logs.
    pub const NONE: Self = Self { info: Log::NONE, error: Log::NONE, wall_time: std::ptr::null_mut() };

    /// Reads the options.
    ///
    /// # Errors
    /// INVALID_VALUE when there are options without names or values.
    ///
    /// # Safety
    /// `options` and `values` have `count` elements, or `count` is 0; buffers and sizes fit each other.
    pub unsafe fn read(count: u32, options: *const CUjit_option, values: *mut *mut c_void) -> Answer<Self> {
        let mut logs = Self::NONE;
        if count > 0 && (options.is_null() || values.is_null()) {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: the caller promises `count` elements.
            let (option, slot) = unsafe { (options.add(index).read(), values.add(index)) };
            // SAFETY: as above.
            let value = unsafe { slot.read() };
            match option {
                CU_JIT_INFO_LOG_BUFFER => logs.info.buffer = value.cast(),
                CU_JIT_ERROR_LOG_BUFFER => logs.error.buffer = value.cast(),
                // Sizes are numbers of 32 bits in the place of a pointer.
                CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES => {
                    (logs.info.capacity, logs.info.size_slot) = (value.addr() & 0xffff_ffff, slot);
                }
                CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES => {
                    (logs.error.capacity, logs.error.size_slot) = (value.addr() & 0xffff_ffff, slot);
                }
                CU_JIT_WALL_TIME => logs.wall_time = slot,
                _ => {}
            }
        }
        Ok(logs)
    }

    /// Fills the logs.
    ///
    /// # Safety
    /// What the program passed to [`Logs::read`] is still there.
    pub unsafe fn write(&self, info: &str, error: &str, milliseconds: f32) {
        // SAFETY: the caller promises it.
        unsafe {
            self.info.write(info);
            self.error.write(error);
            if !self.wall_time.is_null() {
                self.wall_time.write(std::ptr::without_provenance_mut(milliseconds.to_bits() as usize));
            }
        }
    }
}
