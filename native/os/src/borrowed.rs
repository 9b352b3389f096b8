//! Descriptors that JavaScript names by number.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{Errno, fcntl_getfd};

use crate::error::{OsError, Result};

/// Lends the open descriptor `number` to `work`.
pub(crate) fn with<T>(number: RawFd, work: impl FnOnce(BorrowedFd<'_>) -> Result<T>) -> Result<T> {
    work(borrow(number)?)
}

/// Lends several, as `with` does.
pub(crate) fn with_all<T>(numbers: &[RawFd], work: impl FnOnce(&[BorrowedFd<'_>]) -> Result<T>) -> Result<T> {
    let borrowed = numbers.iter().map(|number| borrow(*number)).collect::<Result<Vec<_>>>()?;
    work(&borrowed)
}

/// Only for a call that ends before JavaScript goes on: the lifetime is the caller's promise.
fn borrow<'fd>(number: RawFd) -> Result<BorrowedFd<'fd>> {
    if number < 0 {
        return Err(OsError::new(Errno::BADF, format!("{number} is no descriptor")));
    }
    // SAFETY: the number is not negative. The descriptor is used within one call that JavaScript waits for, so its
    // owner, JavaScript, does not close it meanwhile; a number that nobody has opened only makes system calls fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    match fcntl_getfd(borrowed) {
        Ok(_) => Ok(borrowed),
        Err(errno) => Err(OsError::new(errno, format!("descriptor {number} is not open"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_open_are_refused() {
        for number in [-1, 1_000_000] {
            let error = with(number, |_| Ok(())).unwrap_err();
            assert_eq!(error.errno, Errno::BADF);
            assert!(error.to_string().contains(&number.to_string()), "{error}");
        }
        assert_eq!(with_all(&[0, -1], |_| Ok(())).unwrap_err().errno, Errno::BADF);
    }
}
