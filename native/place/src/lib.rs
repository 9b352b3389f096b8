//! Where a process gets its GPUs from: `FARPOOL_SESSION`, then what `FARPOOL` says, then the person's own service, the
//! machine's, the machine's own driver, and else nowhere (ADR 20).

pub mod local;
pub mod peer;

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// The socket of the service for all users of this machine.
const MACHINE_SERVICE: &str = "/run/farpool-client/broker.sock";

/// The file of the service for all users, in which the machine's owner says what she wants of a driver beside the pool.
const CONFIGURATION: &str = "/etc/farpool/client-service.yaml";

/// A person's own, below what she has configured.
const OWN_CONFIGURATION: &str = "farpool/client-service.yaml";

/// What `FARPOOL` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever comes first in the order.
    Any,
    /// The machine's own GPUs.
    Local,
    /// The pool's GPUs.
    Pool,
}

unsafe extern "C" {
    /// The C library's: as `getenv`, and null in a program that has more rights than who started it.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// An environment variable; none in a program that has more rights than who started it.
pub fn variable(name: &CStr) -> Option<String> {
    // SAFETY: the name is terminated; the answer is null or a terminated text that nothing changes meanwhile, as for
    // every other reader of the environment.
    let value = unsafe {
        let pointer = secure_getenv(name.as_ptr());
        if pointer.is_null() { None } else { Some(CStr::from_ptr(pointer).to_owned()) }
    };
    let text = value.map(CString::into_bytes).map(std::ffi::OsString::from_vec)?;
    text.into_string().ok().filter(|text| !text.is_empty())
}

/// The broker of a session that this process was started in.
pub fn session() -> Option<String> {
    variable(c"FARPOOL_SESSION")
}

/// What `FARPOOL` says, or why it says nothing.
pub fn wanted() -> Result<Wanted, String> {
    match variable(c"FARPOOL").as_deref() {
        None => Ok(Wanted::Any),
        Some("local") => Ok(Wanted::Local),
        Some("pool") => Ok(Wanted::Pool),
        Some(other) => Err(format!("FARPOOL is `{other}`; expected `local` or `pool`, or nothing")),
    }
}

/// The sockets of the services that there are, in their order.
pub fn services() -> Vec<String> {
    if let Some(named) = variable(c"FARPOOL_BROKER") {
        return vec![named];
    }
    // SAFETY: asks for a number.
    let user = unsafe { libc::geteuid() };
    let own = format!("/run/user/{user}/farpool-client/broker.sock");
    [own, MACHINE_SERVICE.to_owned()].into_iter().filter(|path| is_socket(path)).collect()
}

/// Whether the machine's own GPUs come before the pool's.
pub fn is_local_first() -> bool {
    local_gpu().as_deref() == Some("first")
}

/// Whether the machine's own GPUs are not to be used at all.
pub fn is_local_off() -> bool {
    local_gpu().as_deref() == Some("off")
}

fn local_gpu() -> Option<String> {
    let read = |path: PathBuf| local_gpu_of(&std::fs::read_to_string(path).ok()?).map(str::to_owned);
    let configured = variable(c"XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = configured.or_else(|| Some(PathBuf::from(variable(c"HOME")?).join(".config")));
    let own = folder.and_then(|folder| read(folder.join(OWN_CONFIGURATION)));
    of_both(read(CONFIGURATION.into()), own)
}

/// A person's word counts for her own programs, but for what the machine's owner does not want at all.
fn of_both(machines: Option<String>, own: Option<String>) -> Option<String> {
    if machines.as_deref() == Some("off") { machines } else { own.or(machines) }
}

/// The one line of such a file that concerns programs.
fn local_gpu_of(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("local-gpu:"))?;
    Some(value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']))
}

/// Who may be at the other end of a broker's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whoever it is: the process was told of it by who started it.
    Anybody,
    /// Root, or the user of this process: the path is one that everybody knows.
    RootOrUs,
}

impl Owner {
    /// Whether a broker of `user` is asked.
    pub fn may_be(self, user: u32) -> bool {
        // SAFETY: asks for a number.
        let us = unsafe { libc::geteuid() };
        self == Owner::Anybody || user == 0 || user == us || is_beyond_container(user)
    }
}

/// How often a service may go away without an answer: it is started again behind the same socket.
pub const MOST_RESTARTS: u32 = 30;

/// How long is waited for that.
pub const RESTART: Duration = Duration::from_millis(200);

/// Whether `user` is what a container's namespace calls everybody outside of it, the machine's root too. The folder of the
/// socket was put there by who made the container.
fn is_beyond_container(user: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let is_whole = read("/proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]);
    !is_whole && read("/proc/sys/kernel/overflowuid").trim().parse() == Ok(user)
}

fn is_socket(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|status| status.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_programs_is_read_and_others_are_not() {
        assert_eq!(local_gpu_of("gpus: 1\nlocal-gpu: first\n"), Some("first"));
        assert_eq!(local_gpu_of("local-gpu: \"off\" # no card"), Some("off"));
        assert_eq!(local_gpu_of("gpus: 1\n# local-gpu: first"), None);
    }

    #[test]
    fn ones_own_word_counts_but_for_what_the_machine_does_not_have() {
        let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for (machines, own, expected) in [
            ("", "first", "first"),
            ("pool-first", "first", "first"),
            ("first", "", "first"),
            ("first", "off", "off"),
            ("off", "first", "off"),
            ("", "", ""),
        ] {
            assert_eq!(of_both(word(machines), word(own)), word(expected), "{machines} {own}");
        }
    }

    #[test]
    fn a_service_is_roots_or_ones_own() {
        // SAFETY: asks for a number.
        let us = unsafe { libc::geteuid() };
        // Nobody has it, and no namespace calls strangers so.
        let stranger = u32::MAX - 1;
        assert!([0, us].into_iter().all(|user| Owner::RootOrUs.may_be(user)));
        assert!(!Owner::RootOrUs.may_be(stranger));
        assert!(Owner::Anybody.may_be(stranger));
    }
}
