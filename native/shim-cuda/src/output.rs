//! What kernels print belongs on the program's standard output, in order with what the program prints, and what the
//! driver says of a failed assertion on its standard error: both go through the C library's streams.

use wire::notice::{Channel, Output};

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    static stderr: *mut libc::FILE;
}

/// Writes `output` to the program's `stdout` or `stderr`.
pub fn print(output: &Output) {
    let text = output.text.as_slice();
    // SAFETY: both are the C library's; `text` is readable. A program that closed one gets nothing printed there.
    unsafe {
        let stream = match output.channel {
            Channel::Output => stdout,
            Channel::Error => stderr,
        };
        libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream);
    }
}
