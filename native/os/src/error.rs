//! Why something could not be done: what was tried, with its values, and what the kernel said.

use rustix::io::Errno;

/// A failure, as it is told to JavaScript: `code` becomes the error's code, as in Node's own errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {errno}")]
pub(crate) struct OsError {
    /// What did not work, a sentence without its end.
    pub(crate) what: String,
    pub(crate) errno: Errno,
}

pub(crate) type Result<T> = std::result::Result<T, OsError>;

impl OsError {
    pub(crate) fn new(errno: Errno, what: impl Into<String>) -> Self {
        OsError { what: what.into(), errno }
    }

    /// The name of the number, such as `ESRCH`; of a rare one only the number.
    pub(crate) fn code(&self) -> String {
        NAMES
            .iter()
            .find(|(errno, _)| *errno == self.errno)
            .map_or_else(|| format!("E{}", self.errno.raw_os_error()), |(_, name)| (*name).to_owned())
    }
}

/// Says what was tried when it did not work.
pub(crate) trait Explain<T> {
    /// `what` is only written when it is needed.
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Explain<T> for rustix::io::Result<T> {
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| OsError::new(errno, what()))
    }
}

impl<T> Explain<T> for std::io::Result<T> {
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| OsError::new(Errno::from_io_error(&error).unwrap_or(Errno::IO), what()))
    }
}

macro_rules! names {
    ($($errno:ident = $name:literal),* $(,)?) => {
        &[$((Errno::$errno, $name)),*]
    };
}

/// Those that the calls of this add-on can answer.
const NAMES: &[(Errno, &str)] = names![
    ACCESS = "EACCES",
    ADDRINUSE = "EADDRINUSE",
    ADDRNOTAVAIL = "EADDRNOTAVAIL",
    AFNOSUPPORT = "EAFNOSUPPORT",
    AGAIN = "EAGAIN",
    BADF = "EBADF",
    CONNREFUSED = "ECONNREFUSED",
    CONNRESET = "ECONNRESET",
    DESTADDRREQ = "EDESTADDRREQ",
    EXIST = "EEXIST",
    INVAL = "EINVAL",
    IO = "EIO",
    ISDIR = "EISDIR",
    LOOP = "ELOOP",
    MFILE = "EMFILE",
    MSGSIZE = "EMSGSIZE",
    NAMETOOLONG = "ENAMETOOLONG",
    NFILE = "ENFILE",
    NOBUFS = "ENOBUFS",
    NODATA = "ENODATA",
    NODEV = "ENODEV",
    NOENT = "ENOENT",
    NOMEM = "ENOMEM",
    NOPROTOOPT = "ENOPROTOOPT",
    NOSYS = "ENOSYS",
    NOTCONN = "ENOTCONN",
    NOTDIR = "ENOTDIR",
    NOTSOCK = "ENOTSOCK",
    OPNOTSUPP = "EOPNOTSUPP",
    PERM = "EPERM",
    PIPE = "EPIPE",
    PROTOTYPE = "EPROTOTYPE",
    ROFS = "EROFS",
    SRCH = "ESRCH",
    TIMEDOUT = "ETIMEDOUT",
    TOOMANYREFS = "ETOOMANYREFS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_what_was_tried_and_its_code() {
        let error = Err::<(), _>(Errno::SRCH).explain(|| "process 4 is not there").unwrap_err();

        assert_eq!(error.code(), "ESRCH");
        assert!(error.to_string().starts_with("process 4 is not there: "), "{error}");
        assert_eq!(OsError::new(Errno::from_raw_os_error(133), "x").code(), "E133");
    }
}
