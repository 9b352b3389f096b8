//! The tests that every engine must pass, run by code that is compiled thoroughly.

#![allow(clippy::result_large_err, reason = "a fault is what the tests look at")]
#![allow(clippy::duplicate_mod, reason = "elsewhere both files are programs of their own")]

mod kit;

use kit::launch;

const EFFORT: ptx_compiler::Effort = ptx_compiler::Effort::Thorough;

#[path = "../../ptx/tests/execution.rs"]
mod execution;
#[path = "../../ptx/tests/fuzz.rs"]
mod fuzz;
#[path = "../../ptx/tests/instructions.rs"]
mod instructions;
