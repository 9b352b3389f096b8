//! `farpool-acceptor`: reads its options, sets up the log, and runs the loop.

use std::io::IsTerminal;
use std::process::ExitCode;

use acceptor::inherited::Inherited;
use acceptor::options::{Parsed, SANDBOX_VARIABLE, USAGE, parse};
use acceptor::server::Server;
use tracing_subscriber::EnvFilter;

/// `EX_USAGE` of sysexits.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    // The command line comes later, so its word counts.
    let variable = std::env::var_os(SANDBOX_VARIABLE).filter(|policy| !policy.is_empty());
    let words = variable.into_iter().flat_map(|policy| ["--worker-sandbox".into(), policy]);
    let options = match parse(words.chain(std::env::args_os().skip(1))) {
        Ok(Parsed::Run(options)) => *options,
        Ok(Parsed::Help) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Version) => {
            println!("farpool-acceptor {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("farpool-acceptor: {error}\nhint: farpool-acceptor --help lists the options");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // First of all: it takes descriptors by their numbers.
    let inherited = Inherited::take();
    start_log();
    match inherited.and_then(|inherited| Server::new(options, inherited)).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Lines for people at a terminal, JSON for everything that collects logs.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
