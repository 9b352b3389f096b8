//! What kernels print, on its way to the program's own `stdout`.

use std::sync::Mutex;

use crate::device::lock;

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    static stderr: *mut libc::FILE;
}

/// Text that waits for the next synchronisation.
#[derive(Default)]
pub struct Output {
    printed: Mutex<Vec<u8>>,
    complaints: Mutex<Vec<u8>>,
}

impl Output {
    /// Adds the text of a device-side `printf`.
    pub fn print(&self, text: &[u8]) {
        lock(&self.printed).extend_from_slice(text);
    }

    /// Adds the text of a failed device-side assertion.
    pub fn complain(&self, text: &[u8]) {
        lock(&self.complaints).extend_from_slice(text);
    }

    /// Hands everything to libc's streams, so that it keeps its order with what the program prints.
    pub fn flush(&self) {
        let printed = std::mem::take(&mut *lock(&self.printed));
        let complaints = std::mem::take(&mut *lock(&self.complaints));
        // SAFETY: libc's streams are open for the life of the process, or null-safe to skip; the buffers are ours.
        unsafe {
            if !printed.is_empty() && !stdout.is_null() {
                libc::fwrite(printed.as_ptr().cast(), 1, printed.len(), stdout);
            }
            if !complaints.is_empty() && !stderr.is_null() {
                libc::fwrite(complaints.as_ptr().cast(), 1, complaints.len(), stderr);
            }
        }
    }
}
