//! A child process in a sandbox, and what it found out.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use crate::sandbox::{Place, Policy, Sandbox};

/// What a child said, and its status as `waitpid` answers it.
pub struct Outcome {
    pub said: String,
    pub status: libc::c_int,
}

impl Outcome {
    /// The signal that ended it.
    pub fn signal(&self) -> Option<libc::c_int> {
        libc::WIFSIGNALED(self.status).then(|| libc::WTERMSIG(self.status))
    }
}

/// Runs `body` in a child process; what it answers, or the text of its panic, is what the child said.
pub fn in_child(body: impl FnOnce() -> String) -> Outcome {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors; both belong to nobody else.
    let (mut reader, writer) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (std::fs::File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    // SAFETY: the child is a copy of this thread alone; it runs `body`, which takes no lock of this program's, and
    // leaves by `_exit`. The C library's allocator can be used after a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let said = std::panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            format!(
                "panic: {}",
                text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
            )
        });
        // SAFETY: the bytes are those of a living string; `_exit` runs nothing of the test's process.
        unsafe {
            libc::write(writer.as_raw_fd(), said.as_ptr().cast(), said.len());
            libc::_exit(0)
        }
    }
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let mut status = 0;
    // SAFETY: the child is ours and not reaped yet; the place is valid.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    Outcome { said, status }
}

/// As a worker of NVIDIA's driver.
pub fn in_sandbox(body: impl FnOnce() -> String) -> Outcome {
    in_child(|| {
        let sandbox = close();
        assert_eq!(sandbox.layers(), crate::sandbox::offered());
        body()
    })
}

/// A sandbox around a driver in a folder where nothing else is.
pub fn close() -> Sandbox {
    let place = Place { driver: Path::new("/usr/lib/x86_64-linux-gnu/libcuda.so.1"), simulated: false };
    let mut sandbox = Sandbox::close_files(Policy::Strict, place);
    sandbox.close_calls();
    sandbox
}

/// The error's name after a call that answers -1, else `done`.
pub fn answer(result: libc::c_long) -> String {
    if result >= 0 {
        return "done".to_owned();
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        other => format!("error {other:?}"),
    }
}

/// As [`answer`], for the standard library.
pub fn answer_of<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::EACCES) => "EACCES".to_owned(),
            other => format!("error {other:?}"),
        },
    }
}

/// Sets a variable of a child. Not by the standard library: its lock may be held by a thread that was not forked.
pub fn set_variable(name: &std::ffi::CStr, value: &Path) {
    let value = std::ffi::CString::new(value.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: both texts end with a zero; this child has one thread.
    assert_eq!(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) }, 0);
}
