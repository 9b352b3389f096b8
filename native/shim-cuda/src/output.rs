//! What kernels print belongs on the program's standard output, in order with what the program prints: it goes
//! through the C library's `stdout`.

unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

/// Writes `text` to the program's `stdout`.
pub fn print(text: &[u8]) {
    // SAFETY: `stdout` is the C library's; `text` is readable. A program that closed it gets nothing printed.
    unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stdout) };
}
