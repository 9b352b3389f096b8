//! The `FARPOOL_SIMGPU_*` variables, read once. They are described in docs/user/simulated-gpu.md.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

/// More devices than anybody simulates; it fixes the size of the shared file.
pub const MAX_DEVICES: usize = 16;

/// Where the simulated GPU is deliberately as unkind as NVIDIA's.
#[derive(Debug, Clone, Copy)]
pub struct Unkind {
    /// Launches block their caller at 1,024 unfinished ones on a stream.
    pub launch_limit: bool,
    /// Frees and unloads wait for the context's work.
    pub free_waits: bool,
    /// Copies from and to pageable memory wait for the stream.
    pub pageable_waits: bool,
    /// CUDA calls inside host functions answer NOT_PERMITTED.
    pub host_functions: bool,
    /// Fresh device memory holds a pattern.
    pub pattern: bool,
}

/// All settings.
#[derive(Debug)]
pub struct Config {
    /// How many devices there are.
    pub devices: usize,
    /// Memory of each device; the last one counts for those behind it.
    pub memory_bytes: Vec<u64>,
    /// What follows the name of every device.
    pub name_suffix: String,
    /// Memory that each context takes.
    pub context_bytes: u64,
    /// How long making a context takes.
    pub context_time: Duration,
    /// Multiprocessors of each device.
    pub multiprocessors: i32,
    /// Threads that execute kernels; 0 is one per core.
    pub workers: usize,
    /// The file in which processes account for memory together.
    pub state_path: PathBuf,
    /// What identifiers are made of.
    pub seed: String,
    /// Whether the one who runs the program wants to read what happens.
    pub log: bool,
    /// Where it is as unkind as NVIDIA's.
    pub unkind: Unkind,
    /// Whether devices have virtual memory management.
    pub virtual_memory: bool,
    /// Kernels are interpreted, not compiled.
    pub interpreter: bool,
    /// Races in shared memory are looked for; that takes the interpreter.
    pub races: bool,
    /// Kernels are not executed but take this long.
    pub null_kernel: Option<Duration>,
    /// What a launch costs its caller in null mode.
    pub null_launch: Duration,
}

static CONFIG: LazyLock<Config> = LazyLock::new(Config::read);

/// The settings of this process.
pub fn config() -> &'static Config {
    &CONFIG
}

impl Config {
    fn read() -> Self {
        let number =
            |name: &str, default: u64| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
        let bytes =
            |name: &str, default: u64| text(name).and_then(|value| parse_bytes(&value)).unwrap_or(default);
        let devices = number("FARPOOL_SIMGPU_DEVICES", 1).min(MAX_DEVICES as u64);
        // SAFETY: `geteuid` cannot fail.
        let user = unsafe { libc::geteuid() };
        Self {
            devices: usize::try_from(devices).unwrap_or(1),
            memory_bytes: text("FARPOOL_SIMGPU_MEMORY")
                .and_then(|value| value.split(',').map(|part| parse_bytes(part.trim())).collect())
                .unwrap_or_else(|| vec![4 << 30]),
            name_suffix: text("FARPOOL_SIMGPU_NAME_SUFFIX").unwrap_or_default(),
            context_bytes: bytes("FARPOOL_SIMGPU_CONTEXT_MEMORY", 64 << 20),
            context_time: Duration::from_millis(number("FARPOOL_SIMGPU_CONTEXT_MS", 0)),
            multiprocessors: i32::try_from(number("FARPOOL_SIMGPU_MULTIPROCESSORS", 8)).unwrap_or(8).max(1),
            workers: usize::try_from(number("FARPOOL_SIMGPU_WORKERS", 0)).unwrap_or(0),
            state_path: text("FARPOOL_SIMGPU_STATE")
                .map_or_else(|| shared_folder().join(format!("farpool-simgpu-{user}")), PathBuf::from),
            seed: text("FARPOOL_SIMGPU_SEED").unwrap_or_else(machine_name),
            log: text("FARPOOL_SIMGPU_LOG").is_some_and(|value| value != "0"),
            unkind: parse_unkind(text("FARPOOL_SIMGPU_UNKIND").as_deref()),
            virtual_memory: text("FARPOOL_SIMGPU_VMM").is_none_or(|value| value != "0"),
            interpreter: text("FARPOOL_SIMGPU_ENGINE").is_some_and(|value| value == "interpreter"),
            races: text("FARPOOL_SIMGPU_RACES").is_some_and(|value| value != "0"),
            null_kernel: text("FARPOOL_SIMGPU_NULL")
                .filter(|value| value != "0")
                .map(|_| Duration::from_nanos(number("FARPOOL_SIMGPU_KERNEL_NS", 0))),
            null_launch: Duration::from_nanos(number("FARPOOL_SIMGPU_LAUNCH_NS", 0)),
        }
    }
}

impl Config {
    /// Memory of a device, by its number before `CUDA_VISIBLE_DEVICES`.
    pub fn memory_of(&self, physical: usize) -> u64 {
        let memory = self.memory_bytes.get(physical).or(self.memory_bytes.last());
        memory.copied().unwrap_or(0)
    }
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn shared_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn machine_name() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    read("/etc/machine-id")
        .filter(|text| !text.is_empty())
        .or_else(|| read("/proc/sys/kernel/hostname"))
        .unwrap_or_else(|| "farpool".to_owned())
}

/// A number of bytes: plain, or with `K`, `M`, `G`, `T` (optionally `KiB`, `MiB`, …) in powers of 1,024.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// `all` (the default), `none`, or a list such as `launch-limit,pattern`.
fn parse_unkind(text: Option<&str>) -> Unkind {
    let text = text.unwrap_or("all");
    let on = |name: &str| match text {
        "all" | "1" => true,
        "none" | "0" => false,
        list => list.split(',').any(|item| item.trim() == name),
    };
    Unkind {
        launch_limit: on("launch-limit"),
        free_waits: on("free-waits"),
        pageable_waits: on("pageable-waits"),
        host_functions: on("host-functions"),
        pattern: on("pattern"),
    }
}

/// Tells the one who runs the program something, when asked to by FARPOOL_SIMGPU_LOG.
pub fn log(message: impl FnOnce() -> String) {
    if config().log {
        say(&message());
    }
}

/// Tells the one who runs the program something, whatever the settings.
pub fn say(message: &str) {
    eprintln!("farpool simulated GPU: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("4GiB"), Some(4 << 30));
        assert_eq!(parse_bytes("512 M"), Some(512 << 20));
        assert_eq!(parse_bytes("many"), None);
        assert_eq!(parse_bytes("99999999999T"), None);
    }

    #[test]
    fn unkindness_is_all_none_or_a_list() {
        assert!(parse_unkind(None).pattern && parse_unkind(Some("all")).launch_limit);
        assert!(!parse_unkind(Some("none")).pattern);
        let some = parse_unkind(Some("pattern, free-waits"));
        assert!(some.pattern && some.free_waits && !some.launch_limit);
    }
}
