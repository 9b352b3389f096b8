//! `farpool-os.node`: what Node cannot do of Linux, for the TypeScript side (`packages/os` is its typed face).
//!
//! Descriptors are plain numbers here, as in Node. Whoever is given one by this add-on closes it; those that it is
//! given stay the caller's. Each module has one subject and knows nothing of Node; `exports.rs` translates.

mod borrowed;
mod error;
pub mod exports;
mod listen;
mod notify;
mod passing;
mod peer;
mod process;
mod watch;
