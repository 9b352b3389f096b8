//! Listening sockets that somebody else holds, so that clients who come while there is no acceptor wait for the next one.
//!
//! systemd passes them by its protocol (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`). A supervisor that cannot know the
//! process's number before it exists sets `FARPOOL_LISTEN_FDS` to their names instead, separated by colons. Both begin at
//! descriptor 3.

use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Names the sockets, for supervisors that are not systemd.
pub const VARIABLE: &str = "FARPOOL_LISTEN_FDS";

/// First descriptor that is passed.
const FIRST: RawFd = 3;
/// The sockets are moved there: a worker's descriptors begin at [`FIRST`], too.
const FROM: RawFd = 10;

/// Sockets that listen already.
#[derive(Debug, Default)]
pub struct Inherited {
    /// `data-tcp`
    pub tcp: Option<OwnedFd>,
    /// `data-unix`
    pub unix: Option<OwnedFd>,
    /// `control`
    pub control: Option<OwnedFd>,
}

impl Inherited {
    /// Takes what this process was given. Called once, before anything else is opened.
    pub fn take() -> anyhow::Result<Inherited> {
        let names = names(|name| std::env::var_os(name), std::process::id())?;
        let mut taken = Inherited::default();
        for (place, name) in names.iter().enumerate() {
            let number = FIRST + RawFd::try_from(place)?;
            let explain = || format!("descriptor {number}, which is said to be {name}");
            // SAFETY: F_GETFD only asks about a number; it has no effect on any memory or descriptor.
            if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
                bail!("{} is not open", explain());
            }
            // SAFETY: it is open (checked above), the environment says that it is for this process, and nothing else here
            // refers to it: this runs once, before anything is opened.
            let given = unsafe { OwnedFd::from_raw_fd(number) };
            let socket = rustix::io::fcntl_dupfd_cloexec(&given, FROM).with_context(explain)?;
            let (slot, is_tcp) = match name.as_str() {
                "data-tcp" => (&mut taken.tcp, true),
                "data-unix" => (&mut taken.unix, false),
                "control" => (&mut taken.control, false),
                _ => bail!("a socket is named {name:?}, expected data-tcp, data-unix or control"),
            };
            if slot.is_some() {
                bail!("two sockets are named {name}, expected one");
            }
            let is_listening = sockopt::socket_acceptconn(&socket).with_context(explain)?;
            let domain = sockopt::socket_domain(&socket).with_context(explain)?;
            let fits = if is_tcp { domain != AddressFamily::UNIX } else { domain == AddressFamily::UNIX };
            let kind = sockopt::socket_type(&socket).with_context(explain)?;
            if !is_listening || !fits || kind != SocketType::STREAM {
                bail!("{} is no listening stream socket of that kind", explain());
            }
            *slot = Some(socket);
        }
        Ok(taken)
    }
}

/// The names of what was passed to the process `pid`.
fn names(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> anyhow::Result<Vec<String>> {
    let text = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value
            .map(|value| value.into_string().ok().with_context(|| format!("{name} is not UTF-8")))
            .transpose()
    };
    let split = |names: String| names.split(':').map(str::to_owned).collect::<Vec<_>>();
    if let Some(names) = text(VARIABLE)? {
        return Ok(split(names));
    }
    let (Some(count), Some(addressee)) = (text("LISTEN_FDS")?, text("LISTEN_PID")?) else {
        return Ok(Vec::new());
    };
    // Meant for an ancestor that did not take the variables away.
    if addressee != pid.to_string() {
        return Ok(Vec::new());
    }
    let names = split(text("LISTEN_FDNAMES")?.unwrap_or_default());
    if count != names.len().to_string() {
        bail!(
            "LISTEN_FDS is {count:?} and LISTEN_FDNAMES has {} names, expected one for each (FileDescriptorName= in the \
             socket units: data-tcp, data-unix, control)",
            names.len()
        );
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(variables: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let find =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into());
        names(find, 7)
    }

    #[test]
    fn names_are_taken_when_they_are_for_this_process() {
        let systemd = |pid, count| {
            names_of(&[("LISTEN_PID", pid), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", "data-tcp:control")])
        };
        assert_eq!(systemd("7", "2").expect("names"), ["data-tcp", "control"]);
        assert_eq!(systemd("8", "2").expect("names"), [""; 0]);
        assert!(systemd("7", "3").expect_err("a mismatch").to_string().contains("FileDescriptorName"));
        assert_eq!(names_of(&[]).expect("names"), [""; 0]);
        assert_eq!(names_of(&[(VARIABLE, "data-unix")]).expect("names"), ["data-unix"]);
    }
}
