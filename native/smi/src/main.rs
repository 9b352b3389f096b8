//! `farpool-smi`: what `nvidia-smi` shows, for clients that have none. It is installed by the name `nvidia-smi`, takes
//! the options that scripts use, and exits with the same codes. What it shows is NVML's word, whoever's NVML it is.

mod csv;
mod details;
mod fields;
mod gather;
mod nvml;
mod options;
mod table;
mod time;

use std::io::Write as _;
use std::process::ExitCode;

use crate::gather::Report;
use crate::nvml::{Nvml, NvmlError};
use crate::options::{Command, Options, UsageError};

/// Why it ends; codes as nvidia-smi's.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(#[from] UsageError),
    #[error("{0}")]
    Nvml(#[from] NvmlError),
    #[error("{path} cannot be written: {reason}")]
    Output { path: String, reason: std::io::Error },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Nvml(error) => error.exit_code(),
            Self::Output { .. } => 255,
        }
    }
}

fn main() -> ExitCode {
    // As programs in pipes do: whoever reads no more ends us.
    // SAFETY: the default action of a signal is set before there is another thread.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // nvidia-smi says it on stdout, where scripts look for it.
            println!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(words: &[String]) -> Result<(), Failure> {
    let options = options::parse(words)?;
    match &options.command {
        Command::Help => return print(&options, options::HELP),
        Command::HelpQueryGpu => return print(&options, &fields::help()),
        _ => {}
    }
    let nvml = Nvml::load()?;
    let mut is_first = true;
    loop {
        let report = gather::report(&nvml, options.only.as_deref())?;
        print(&options, &text(&options, &report, is_first))?;
        let Some(every) = options.every else { return Ok(()) };
        is_first = false;
        std::thread::sleep(every);
    }
}

fn text(options: &Options, report: &Report, is_first: bool) -> String {
    match &options.command {
        Command::Help | Command::HelpQueryGpu => String::new(),
        Command::Version => format!(
            "NVIDIA-SMI version  : Farpool {}\nNVML version        : {}\nDRIVER version      : {}\nCUDA Version        : {}\n",
            env!("CARGO_PKG_VERSION"),
            report.nvml_version,
            report.driver_version.as_deref().unwrap_or("N/A"),
            report.cuda_version,
        ),
        Command::Table => table::render(report),
        Command::List => report
            .gpus
            .iter()
            .map(|gpu| format!("GPU {}: {} (UUID: {})\n", gpu.index, gpu.name, gpu.uuid))
            .collect(),
        Command::Details(sections) => details::render(report, sections),
        // A header of columns is said once, also where rows go on.
        Command::QueryGpu(columns, format) => csv::gpus(report, columns, *format, is_first),
        Command::QueryApps(columns, format) => csv::processes(report, columns, *format, is_first),
    }
}

fn print(options: &Options, text: &str) -> Result<(), Failure> {
    let written = match &options.file {
        Some(path) => {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
        }
        None => std::io::stdout().write_all(text.as_bytes()),
    };
    let path = || options.file.clone().unwrap_or_else(|| "the output".to_owned());
    written.map_err(|reason| Failure::Output { path: path(), reason })
}
