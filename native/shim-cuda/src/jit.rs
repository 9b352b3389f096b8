//! The options of a module or library load: read from the program, sent to the worker, logs written back.

use std::ffi::{c_uint, c_void};

use cuda_abi::{CUjit_option, CUresult};
use wire::cuda::OptionValue;

use crate::entry::Answer;

/// Numbers of `CUjit_option` whose value is a buffer of the program's, or the size of one.
mod numbers {
    pub const INFO_LOG_BUFFER: i32 = 3;
    pub const INFO_LOG_BUFFER_SIZE_BYTES: i32 = 4;
    pub const ERROR_LOG_BUFFER: i32 = 5;
    pub const ERROR_LOG_BUFFER_SIZE_BYTES: i32 = 6;
    /// Values from here on that are pointers to arrays (global symbols and addresses).
    pub const POINTERS: [i32; 3] = [17, 18, 26];
    /// `CU_JIT_WALL_TIME`: a float that the driver writes.
    pub const WALL_TIME: i32 = 2;
}

/// Most options that one load may have; CUDA 13.0 knows 35.
const MAX_OPTIONS: c_uint = 256;

/// The options of one load.
#[derive(Debug)]
pub struct JitOptions {
    options: Vec<OptionValue>,
    values: *mut *mut c_void,
    info: Log,
    error: Log,
}

#[derive(Debug, Default, Clone, Copy)]
struct Log {
    buffer: Option<*mut u8>,
    size: usize,
    size_position: Option<usize>,
}

impl JitOptions {
    /// No options.
    pub fn none() -> JitOptions {
        JitOptions {
            options: Vec::new(),
            values: std::ptr::null_mut(),
            info: Log::default(),
            error: Log::default(),
        }
    }

    /// Reads a program's options.
    ///
    /// Errors: `INVALID_VALUE` for missing arrays; `NOT_SUPPORTED` for options with pointers of other kinds.
    ///
    /// # Safety
    /// Both arrays are null or have `count` elements, as `cuModuleLoadDataEx` demands.
    pub unsafe fn read(
        options: *const CUjit_option,
        values: *mut *mut c_void,
        count: c_uint,
    ) -> Answer<JitOptions> {
        let mut all = JitOptions::none();
        if count == 0 {
            return Ok(all);
        }
        if options.is_null() || values.is_null() || count > MAX_OPTIONS {
            return Err(CUresult::INVALID_VALUE);
        }
        all.values = values;
        for position in 0..count as usize {
            // SAFETY: both arrays have `count` elements by the caller's promise.
            let (option, value) = unsafe { (*options.add(position), *values.add(position)) };
            all.add(position, option, value)?;
        }
        Ok(all)
    }

    fn add(&mut self, position: usize, option: i32, value: *mut c_void) -> Answer {
        match option {
            numbers::INFO_LOG_BUFFER => self.info.buffer = Some(value.cast()),
            numbers::ERROR_LOG_BUFFER => self.error.buffer = Some(value.cast()),
            numbers::INFO_LOG_BUFFER_SIZE_BYTES => self.info.sized(value, position),
            numbers::ERROR_LOG_BUFFER_SIZE_BYTES => self.error.sized(value, position),
            // The time that compiling takes is the server's business; the program sees what it left there.
            numbers::WALL_TIME => {}
            pointer if numbers::POINTERS.contains(&pointer) => {
                crate::report::once(&format!(
                    "module load option {option} (a pointer) is not supported by Farpool yet"
                ));
                return Err(CUresult::NOT_SUPPORTED);
            }
            _ => self.options.push(OptionValue { option, value: value.addr() as u64 }),
        }
        Ok(())
    }

    /// What the worker gets: plain options, and the sizes of the logs that the program wants.
    pub fn to_wire(&self) -> Vec<OptionValue> {
        let mut options = self.options.clone();
        for (number, log) in [
            (numbers::INFO_LOG_BUFFER_SIZE_BYTES, self.info),
            (numbers::ERROR_LOG_BUFFER_SIZE_BYTES, self.error),
        ] {
            if log.buffer.is_some() {
                options.push(OptionValue { option: number, value: log.size as u64 });
            }
        }
        options
    }

    /// Writes the logs into the program's buffers, and their lengths where CUDA does.
    ///
    /// # Safety
    /// The buffers that [`JitOptions::read`] saw are still the program's, with the sizes it gave.
    pub unsafe fn deliver(&self, info: &[u8], error: &[u8]) {
        for (log, text) in [(self.info, info), (self.error, error)] {
            let Some(buffer) = log.buffer.filter(|buffer| !buffer.is_null() && log.size > 0) else {
                continue;
            };
            let count = text.len().min(log.size - 1);
            // SAFETY: the buffer has `size` bytes by the caller's promise, and `count` is below that; the array
            // of values has the element at `size_position`, which was read from it.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, count);
                buffer.add(count).write(0);
                if let Some(position) = log.size_position {
                    *self.values.add(position) = std::ptr::without_provenance_mut(count);
                }
            }
        }
    }
}

impl Log {
    fn sized(&mut self, value: *mut c_void, position: usize) {
        // The value is an unsigned int in the place of a pointer.
        self.size = value.addr() & 0xffff_ffff;
        self.size_position = Some(position);
    }
}
