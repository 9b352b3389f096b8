//! The sandbox that a worker closes around itself: it executes the calls of somebody who may be hostile, through a
//! driver that nobody here can read (SECURITY.md, ADR 16).
//!
//! It closes in two steps. Landlock holds for the calling thread and for those that it starts later, so files are closed
//! while there is no other thread: when the driver's library is loaded, and before it is initialised. seccomp reaches
//! all threads, so calls are closed last, when the driver has done what only its start needs.
//!
//! A layer that this kernel does not have is left out, and the worker says which ones it has.

mod calls;
mod files;
mod process;

use std::os::fd::OwnedFd;
use std::path::Path;

use serde::Deserialize;

/// Whether workers close a sandbox around themselves; the acceptor's `--worker-sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Every layer that the kernel has.
    #[default]
    Strict,
    /// None: for finding out whether the sandbox is what is in a driver's way.
    Off,
}

/// The driver that must go on working.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its library.
    pub driver: &'a Path,
    /// Whether it is the simulated GPU, which needs other files than NVIDIA's.
    pub simulated: bool,
}

/// A sandbox in the making.
#[derive(Debug)]
pub struct Sandbox {
    policy: Policy,
    layers: Vec<String>,
    /// Keeps the kernel's idea of `/proc/self`, to which a Landlock rule is tied, from being made anew without it.
    _anchor: Option<OwnedFd>,
}

impl Sandbox {
    /// Closes everything but the system calls. Called before the process has a second thread.
    pub fn close_files(policy: Policy, place: Place<'_>) -> Sandbox {
        let mut sandbox = Sandbox { policy, layers: Vec::new(), _anchor: None };
        if policy == Policy::Off {
            return sandbox;
        }
        process::limit_resources();
        sandbox.note("no-new-privileges", process::forbid_new_privileges());
        sandbox.note("no-capabilities", process::drop_capabilities());
        sandbox.note("not-dumpable", process::hide_memory());
        match files::close(place) {
            Ok((abi, anchor)) => {
                sandbox.layers.push(format!("landlock-{abi}"));
                sandbox._anchor = anchor;
            }
            Err(error) => tracing::warn!("the sandbox has no Landlock: {error:#}"),
        }
        sandbox
    }

    /// Closes the system calls that no driver needs once it is initialised, for all threads.
    pub fn close_calls(&mut self) {
        if self.policy == Policy::Strict {
            self.note("seccomp", calls::close());
        }
    }

    /// The layers that hold, in the order in which they were closed.
    pub fn layers(&self) -> &[String] {
        &self.layers
    }

    fn note(&mut self, layer: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.layers.push(layer.to_owned()),
            Err(error) => tracing::warn!("the sandbox lacks {layer}: {error:#}"),
        }
    }
}

/// The layers that a worker on this machine can have.
pub fn offered() -> Vec<String> {
    let mut layers: Vec<String> =
        ["no-new-privileges", "no-capabilities", "not-dumpable"].map(str::to_owned).to_vec();
    layers.extend(files::abi().map(|abi| format!("landlock-{abi}")));
    layers.extend(calls::is_offered().then(|| "seccomp".to_owned()));
    layers
}
