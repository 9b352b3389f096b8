//! `farpool-bench`: what remoting costs, side by side with raw sockets of the same run.
//!
//! It calls whatever `libcuda.so.1` the loader finds: the simulated GPU directly, or the shim inside `farpool run`.
//! Each case alternates raw and CUDA measurements, so that a noisy machine disturbs both alike.

mod calls;
mod cases;
mod cuda;
mod direct;
mod idle;
mod options;
mod peer;
mod place;
mod raw;
mod report;
mod rounds;
mod start;

use std::process::ExitCode;

use options::{Mode, Options};

/// sysexits.h: the command line is wrong.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("farpool-bench: {error:#}\n{}", options::USAGE);
            return ExitCode::from(EX_USAGE);
        }
    };
    let outcome = match &options.mode {
        Mode::Measure => cases::run(&options),
        Mode::Idle(time) => idle::run(*time),
        Mode::Peer(listen) => peer::serve(listen),
        Mode::Launches(count) => direct::child(*count),
        Mode::Start => start::child(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("farpool-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
