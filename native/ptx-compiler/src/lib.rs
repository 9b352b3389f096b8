//! Compiles PTX kernels to machine code with Cranelift.
//!
//! The interpreter of [`ptx`] owns threads, blocks and all waiting; compiled code runs between. Code for a *group* runs
//! neighbouring threads of a warp together, on vectors, for as long as they go the same way; code for one thread runs
//! those that do not. Instructions without a lowering are executed by the interpreter's own functions, and what is more
//! than a function (barriers, calls, exchanges among threads) is left to the interpreter: so every kernel that it runs
//! runs here, with the same results.
//!
//! Compiled code is cut at every instruction that can wait, and at the head of every loop once its time slice is spent.
//!
//! Safety: see [`abi`] for what compiled code touches and who has checked it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "offsets and immediates are small, and values are bit patterns"
)]
#![allow(clippy::result_large_err, reason = "a fault ends a launch: its size does not matter")]

mod abi;
mod code;
mod emit;
mod engine;
mod error;
mod flow;
mod plan;
mod tiers;

pub use code::Effort;
pub use engine::Kernel;
pub use error::CompileError;
