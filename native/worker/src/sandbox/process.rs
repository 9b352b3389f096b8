//! What a process can give up about itself.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Descriptors that a worker can have. The simulated GPU has one per piece of memory that can be mapped; the acceptor's
/// limit, which a worker inherits, is as high as the system allows.
const DESCRIPTORS: u64 = 1 << 16;

/// No core file, which would hold a client's data, and not all descriptors of the machine. The number of processes is
/// not limited: the limit counts all processes of the user, also those that are not ours.
pub fn limit_resources() {
    let inherited = rustix::process::getrlimit(Resource::Nofile);
    let descriptors = inherited.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS);
    for (resource, most) in [(Resource::Core, 0), (Resource::Nofile, descriptors)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = rustix::process::setrlimit(resource, limit) {
            tracing::warn!("the limit of {resource:?} cannot be set to {most}: {error}");
        }
    }
}

/// Nothing that is executed gets more rights than this process has. Landlock and seccomp require it.
pub fn forbid_new_privileges() -> anyhow::Result<()> {
    rustix::thread::set_no_new_privs(true).context("set PR_SET_NO_NEW_PRIVS")
}

/// A worker that was started by root is like one that any user started. CUDA needs no capability.
pub fn drop_capabilities() -> anyhow::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).context("drop all capabilities")
}

/// Other processes of the same user, above all other workers, cannot trace this one nor read its memory.
pub fn hide_memory() -> anyhow::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("clear PR_SET_DUMPABLE")
}
