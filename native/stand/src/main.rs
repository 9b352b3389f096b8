//! `farpool-stand`: runs a command in a session of its own, without manager, agent and Node.
//!
//! It starts the acceptor, opens the session as the agent would, and answers shims as `farpool run` would. It looks
//! for all other programs where the build puts them: beside itself, and in `../lib/shim`.

mod broker;
mod command;
mod keeper;
mod options;
mod recorder;
mod server;

use std::process::ExitCode;

use options::Options;

/// sysexits.h: the command line is wrong.
const EX_USAGE: u8 = 64;
/// sysexits.h: there is no usable GPU, or its server does not start.
const EX_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, folder, acceptor @ ..] = words.as_slice()
        && mode == keeper::MODE
    {
        return keeper::keep(folder.as_ref(), acceptor);
    }
    let options = match Options::parse(words.into_iter()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("farpool-stand: {error:#}\n{}", options::USAGE);
            return ExitCode::from(EX_USAGE);
        }
    };
    match run(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("farpool-stand: {error:#}");
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<u8> {
    let mut server = server::Server::start(options)?;
    let mut session = server.open_session()?;
    if let Some(prefix) = &options.record {
        session.endpoint = recorder::start(server.folder(), prefix)?;
    }
    let broker = broker::serve(server.folder(), session)?;
    let status = command::run(&options.command, &broker, server.programs())?;
    server.close_session()?;
    Ok(status)
}
