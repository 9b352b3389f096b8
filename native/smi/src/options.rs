//! The command line, as nvidia-smi has it.

use std::time::Duration;

use crate::csv::Format;
use crate::fields::{self, AppField, GpuField};

/// What is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Help,
    HelpQueryGpu,
    Version,
    Table,
    List,
    /// Sections by `-d`; none are all.
    Details(Vec<String>),
    QueryGpu(Vec<&'static GpuField>, Format),
    QueryApps(Vec<&'static AppField>, Format),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub command: Command,
    /// The GPUs by `-i`: numbers, UUIDs or PCI addresses.
    pub only: Option<Vec<String>>,
    pub file: Option<String>,
    /// Again and again, so far apart.
    pub every: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error(
        "Invalid combination of input arguments. `{word}` is not an option that Farpool's nvidia-smi has.\n\nhint: `nvidia-smi -h` lists those it has"
    )]
    UnknownOption { word: String },
    #[error("Option `{option}` needs a value, as in `{example}`.")]
    NoValue { option: String, example: &'static str },
    #[error("Field \"{field}\" is not a valid field to query.\n")]
    UnknownField { field: String },
    #[error("\"--format=\" has `{word}`, expected csv, noheader or nounits; csv is mandatory.")]
    UnknownFormat { word: String },
    #[error("\"--format=\" switch is missing. It is mandatory when selective query options are used.")]
    NoFormat,
    #[error("`{option}` has the value `{value}`, expected {expected}.")]
    BadValue { option: &'static str, value: String, expected: &'static str },
}

/// Sections of `-q` that `-d` can name.
pub const SECTIONS: &[&str] =
    &["MEMORY", "UTILIZATION", "ECC", "TEMPERATURE", "POWER", "CLOCK", "COMPUTE", "PIDS", "PERFORMANCE"];

pub const HELP: &str = "\
Farpool's nvidia-smi: the GPUs of this session, by the options of nvidia-smi that are used most.

    nvidia-smi [OPTION1 [ARG1]] [OPTION2 [ARG2]] ...

    -h,   --help                Print usage information and exit.
          --version             Print version information and exit.
    -L,   --list-gpus           List the GPUs with their UUIDs.
    <no arguments>              Show a summary.
    -q,   --query               Show details.
    -d,   --display=            With -q: only these of MEMORY, UTILIZATION, ECC, TEMPERATURE, POWER, CLOCK, COMPUTE,
                                PIDS, PERFORMANCE.
          --query-gpu=          Values of GPUs, as --help-query-gpu lists them.
          --query-compute-apps= Values of processes: gpu_name, gpu_bus_id, gpu_uuid, gpu_serial, pid, process_name,
                                used_gpu_memory.
          --format=             With the two above: csv[,noheader][,nounits].
    -i,   --id=                 Only these GPUs: numbers, UUIDs or PCI addresses.
    -f,   --filename=           Append to a file instead.
    -l,   --loop=               Again every so many seconds; -lms, --loop-ms= for milliseconds.
";

pub fn parse(words: &[String]) -> Result<Options, UsageError> {
    let mut words = words.iter().map(String::as_str).peekable();
    let (mut command, mut format) = (None, None);
    let (mut gpu_query, mut app_query, mut sections) = (None, None, Vec::new());
    let (mut only, mut file, mut every) = (None, None, None);
    while let Some(word) = words.next() {
        let (name, given) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let is_long = name.starts_with("--");
        // Short options have their value in the next word, long ones behind `=` or there.
        let mut value = |example| {
            let next = if is_long && given.is_some() { None } else { words.next() };
            given
                .filter(|_| is_long)
                .or(next)
                .map(str::to_owned)
                .ok_or(UsageError::NoValue { option: name.to_owned(), example })
        };
        match name {
            "-h" | "--help" => command = Some(Command::Help),
            "--help-query-gpu" => command = Some(Command::HelpQueryGpu),
            "--version" => command = Some(Command::Version),
            "-L" | "--list-gpus" => command = Some(Command::List),
            "-q" | "--query" => command = Some(Command::Details(Vec::new())),
            "-d" | "--display" => {
                for section in value("-d MEMORY,UTILIZATION")?.split(',') {
                    let section = section.trim().to_ascii_uppercase();
                    if !SECTIONS.contains(&section.as_str()) {
                        let expected = "MEMORY, UTILIZATION, ECC, TEMPERATURE, POWER, CLOCK, COMPUTE, PIDS or PERFORMANCE";
                        return Err(UsageError::BadValue { option: "--display", value: section, expected });
                    }
                    sections.push(section);
                }
            }
            "--query-gpu" => gpu_query = Some(fields::gpu_fields(&value("--query-gpu=name,uuid")?)?),
            "--query-compute-apps" => {
                app_query = Some(fields::app_fields(&value("--query-compute-apps=pid,name")?)?);
            }
            "--format" => format = Some(parse_format(&value("--format=csv")?)?),
            "-i" | "--id" => {
                let list = value("-i 0")?;
                only = Some(list.split(',').map(|id| id.trim().to_owned()).collect());
            }
            "-f" | "--filename" => file = Some(value("-f FILE")?),
            "-l" | "--loop" => {
                // Its value may be left out.
                let next = words.peek().is_some_and(|next| next.parse::<u64>().is_ok());
                let text = match given {
                    Some(text) if is_long => text.to_owned(),
                    _ if next => words.next().unwrap_or("5").to_owned(),
                    _ => "5".to_owned(),
                };
                every = Some(Duration::from_secs(whole("--loop", &text, "seconds")?));
            }
            "-lms" | "--loop-ms" => {
                every = Some(Duration::from_millis(whole("--loop-ms", &value("-lms 500")?, "milliseconds")?));
            }
            _ => return Err(UsageError::UnknownOption { word: word.to_owned() }),
        }
    }
    let command = match (gpu_query, app_query, command) {
        (Some(columns), _, _) => Command::QueryGpu(columns, format.ok_or(UsageError::NoFormat)?),
        (None, Some(columns), _) => Command::QueryApps(columns, format.ok_or(UsageError::NoFormat)?),
        (None, None, Some(Command::Details(_))) => Command::Details(sections),
        (None, None, Some(command)) => command,
        (None, None, None) => Command::Table,
    };
    Ok(Options { command, only, file, every })
}

fn whole(option: &'static str, text: &str, unit: &'static str) -> Result<u64, UsageError> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| UsageError::BadValue {
        option,
        value: text.to_owned(),
        expected: if unit == "seconds" { "seconds above 0" } else { "milliseconds above 0" },
    })
}

fn parse_format(text: &str) -> Result<Format, UsageError> {
    let mut format = Format { has_header: true, has_units: true };
    let mut is_csv = false;
    for word in text.split(',').map(str::trim) {
        match word {
            "csv" => is_csv = true,
            "noheader" => format.has_header = false,
            "nounits" => format.has_units = false,
            _ => return Err(UsageError::UnknownFormat { word: word.to_owned() }),
        }
    }
    if is_csv { Ok(format) } else { Err(UsageError::UnknownFormat { word: text.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, UsageError> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_ways_in_which_scripts_ask_are_understood() {
        assert_eq!(parsed("").expect("nothing").command, Command::Table);
        assert_eq!(parsed("-L").expect("a list").command, Command::List);
        assert_eq!(
            parsed("-q -d memory,ECC").expect("details").command,
            Command::Details(vec!["MEMORY".into(), "ECC".into()])
        );
        let options = parsed("--query-gpu=name,memory.total --format=csv,noheader,nounits -i 0,1 -f /tmp/x")
            .expect("a query");
        let Command::QueryGpu(columns, format) = options.command else { panic!("not a query") };
        assert_eq!(columns.iter().map(|field| field.name).collect::<Vec<_>>(), ["name", "memory.total"]);
        assert_eq!(format, Format { has_header: false, has_units: false });
        assert_eq!((options.only, options.file), (Some(vec!["0".into(), "1".into()]), Some("/tmp/x".into())));
        let spaced = parsed("--query-gpu name --format csv -l").expect("values in the next word");
        assert_eq!(spaced.every, Some(Duration::from_secs(5)));
        assert_eq!(parsed("-lms 250").expect("a loop").every, Some(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let message = |line: &str| parsed(line).expect_err(line).to_string();
        assert_eq!(
            message("--query-gpu=name,warp.speed --format=csv"),
            "Field \"warp.speed\" is not a valid field to query.\n"
        );
        assert!(message("--query-gpu=name").contains("--format="));
        assert!(message("--query-gpu=name --format=xml").contains("`xml`"));
        assert!(message("--reset").contains("`--reset`"));
        assert!(message("-i").contains("`-i`"));
        assert!(message("-q -d WARP").contains("`WARP`"));
        assert!(message("--loop=0").contains("`0`"));
    }
}
