//! PTX, NVIDIA's virtual instruction set: a parser and a correct interpreter.
//!
//! [`Module::parse`] turns text into pre-resolved code (registers are slots, labels are program
//! counters, opcode and type are one function pointer). [`launch`] runs a kernel on a [`Device`], which
//! supplies global memory. Every thread has its own program counter and registers; threads of a block
//! take turns, so divergent spin locks end; blocks are spread over the cores. Nothing here knows the
//! CUDA API: the simulated GPU builds that on top.
//!
//! Every access is checked, and no PTX text or pointer value panics or touches foreign memory.

#![deny(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "PTX instructions are defined by truncation and reinterpretation: casts are the semantics here"
)]
#![allow(clippy::result_large_err, reason = "a fault ends a launch: its size does not matter")]

mod ast;
mod decode;
mod device;
pub mod engine;
mod error;
mod exec;
mod launch;
mod lexer;
mod link;
mod matrix;
mod memory;
mod module;
mod parser;
mod program;
mod races;
mod softfloat;
mod spare;
mod value;

pub use device::{Device, MemoryRange};
pub use error::{Fault, FaultKind, ParseError, Unsupported};
pub use launch::{LaunchConfig, LaunchStats, launch, launch_watched};
pub use module::{Function, Module, Param, Relocation, Symbol, Variable, VariableSpace};
pub use program::RESERVED_SHARED_BYTES;
pub use races::{AccessKind, Race, Races, RacingAccess};
