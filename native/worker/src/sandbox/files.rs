//! Files, TCP ports, and who can be signalled: Landlock.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use rustix::fs::{Mode, OFlags};

use super::Place;

/// The newest interface whose restrictions are wanted; an older kernel enforces what it knows of them.
const NEWEST: ABI = ABI::V10;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | IoctlDev});
/// A file that exists.
const CHANGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate});
/// A folder whose files come and go.
const KEEP: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir
});

/// Where shared libraries are: a driver loads parts of itself when they are needed first. Loading needs no right to
/// execute, so nobody has that.
const LIBRARIES: [&str; 7] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"];
/// What NVIDIA's driver reads about itself and the machine, and what the C library and ours do.
const FACTS: [&str; 25] = [
    "/dev/random",
    "/dev/urandom",
    "/etc/nvidia",
    "/usr/share/nvidia",
    "/proc/bus/pci",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/driver",
    "/proc/filesystems",
    "/proc/interrupts",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/sys/module",
];
const DEVICES: [&str; 4] = ["/dev/dri", "/dev/dxg", "/dev/null", "/dev/zero"];

/// Lets this thread, and those that it starts, reach what the driver needs and nothing else. Answers the version of
/// Landlock's interface that holds, and what must stay open for it.
pub fn close(place: Place<'_>) -> anyhow::Result<(i32, Option<OwnedFd>)> {
    let threads = std::fs::read_dir("/proc/self/task").context("count the threads of this process")?.count();
    if threads != 1 {
        bail!("{threads} threads run already, and the kernel would restrict this one only");
    }
    let myself = own_folder().context("open /proc/self")?;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(LIBRARIES, READ))?
        .add_rules(path_beneath_rules(driver_libraries(place.driver), READ))?
        .add_rules(path_beneath_rules(FACTS, READ))?
        .add_rules(path_beneath_rules(DEVICES, DEVICE))?
        // The names of its threads are files, too.
        .add_rule(PathBeneath::new(&myself, READ | AccessFs::WriteFile))?;
    rules = if place.simulated { open_simulated(rules)? } else { open_vendors(rules)? };
    let status = rules.restrict_self()?;
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            Ok((effective_abi as i32, Some(myself)))
        }
        LandlockStatus::NotEnabled => bail!("it is switched off in this kernel"),
        _ => bail!("this kernel does not have it"),
    }
}

/// The version of Landlock's interface that [`close`] would use; `None` where the kernel has none.
pub fn abi() -> Option<i32> {
    const VERSION: libc::c_int = 1;
    // SAFETY: with this flag the kernel reads nothing through the pointer and answers a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION)
    };
    i32::try_from(abi).ok().filter(|abi| *abi > 0).map(|abi| abi.min(NEWEST as i32))
}

fn own_folder() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The libraries in the folder in which the driver was found, and in the one in which it is. Not the folders: they may be
/// anybody's, with anything else in them.
fn driver_libraries(driver: &Path) -> Vec<PathBuf> {
    let real = driver.canonicalize().ok();
    let files = [Some(driver), real.as_deref()].into_iter().flatten();
    let folders = files.filter_map(Path::parent).filter(|folder| folder.is_absolute());
    let unknown = folders.filter(|folder| !LIBRARIES.iter().any(|known| folder.starts_with(known)));
    let entries = unknown.filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().contains(".so"));
    named.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// NVIDIA's driver: its devices, its shared memory between processes, and compiled kernels that it keeps.
fn open_vendors(rules: RulesetCreated) -> anyhow::Result<RulesetCreated> {
    let devices = std::fs::read_dir("/dev").context("look for devices")?.flatten();
    let devices = devices.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"nvidia"));
    let rules = rules
        .add_rules(path_beneath_rules(devices.map(|entry| entry.path()), DEVICE))?
        .add_rules(path_beneath_rules(["/dev/shm"], KEEP))?;
    let Some(cache) = kernel_cache() else { return Ok(rules) };
    // A folder that is not there cannot be named in a rule. If it cannot be made, the driver does without, too.
    let _ = std::fs::create_dir_all(&cache);
    Ok(rules.add_rules(path_beneath_rules([cache], KEEP))?)
}

/// Where NVIDIA's driver keeps compiled kernels, by its documented variables.
fn kernel_cache() -> Option<PathBuf> {
    if std::env::var_os("CUDA_CACHE_DISABLE").is_some_and(|value| value == "1") {
        return None;
    }
    let given = std::env::var_os("CUDA_CACHE_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    given.or_else(|| {
        let home = std::env::var_os("HOME").filter(|path| !path.is_empty())?;
        Some(Path::new(&home).join(".nv/ComputeCache"))
    })
}

/// The simulated GPU: its account of used memory. To know which of its processes live it reads their `stat`; what is
/// private in `/proc` stays closed, because Landlock also forbids to trace.
fn open_simulated(rules: RulesetCreated) -> anyhow::Result<RulesetCreated> {
    let account = simulated_account();
    // It is the driver that would make it, which only a right to make any file beside it would allow.
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&account);
    if let Err(error) = made {
        tracing::warn!("{} cannot be opened: {error}", account.display());
    }
    Ok(rules
        .add_rules(path_beneath_rules([account], CHANGE))?
        .add_rules(path_beneath_rules(["/etc/machine-id", "/proc"], AccessFs::ReadFile))?)
}

/// As the simulated GPU finds it (docs/user/simulated-gpu.md).
fn simulated_account() -> PathBuf {
    let given = std::env::var("FARPOOL_SIMGPU_STATE").unwrap_or_default();
    if !given.trim().is_empty() {
        return PathBuf::from(given.trim());
    }
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("farpool-simgpu-{}", rustix::process::geteuid().as_raw()))
}
