//! Stepping aside: in a process that uses the machine's own GPU every symbol of this library leads to the driver's.
//!
//! The loader finds this library first. Whether it is meant is known when the process first calls it, before anything
//! is made that only one of the two knows.

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use place::Wanted;

use crate::generated::slots::{NAMES, SLOTS};
use crate::{report, state};

/// The driver that this process uses instead.
struct Driver(*mut c_void);

// SAFETY: the handle of a library is the same for every thread.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

static DRIVER: OnceLock<Driver> = OnceLock::new();

/// Folders that the loader looks into without being told.
const USUAL_FOLDERS: [&str; 5] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];

/// Of what is compared to tell a copy of this library from a driver.
const COMPARED_BYTES: u64 = 64 << 10;

/// Whether it was looked for a driver in vain: look-ups of functions come by the hundred.
static HAS_LOOKED: AtomicBool = AtomicBool::new(false);

/// The local driver's function, in a process that is to use it. `cuInit` looks anew each time that it is called.
pub fn local(name: &CStr) -> Option<*mut c_void> {
    if DRIVER.get().is_none() {
        let may_look = name == c"cuInit" || !HAS_LOOKED.swap(true, Ordering::Relaxed);
        if !may_look || state::found().is_ok() || !is_local_wanted() || !step_aside() {
            return None;
        }
    }
    find(name)
}

/// After no service would have this process: whether the local driver takes its place.
pub fn instead_of_services() -> bool {
    place::wanted() == Ok(Wanted::Any) && !place::is_local_off() && step_aside()
}

/// The local driver's function, when this process has stepped aside.
pub fn find(name: &CStr) -> Option<*mut c_void> {
    let Driver(handle) = DRIVER.get()?;
    // SAFETY: the handle is of a library that is never closed.
    let address = unsafe { libc::dlsym(*handle, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

fn is_local_wanted() -> bool {
    if place::session().is_some() {
        return false;
    }
    match place::wanted() {
        Ok(Wanted::Local) => true,
        Ok(Wanted::Any) if place::is_local_off() => false,
        Ok(Wanted::Any) => place::is_local_first() || place::services().is_empty(),
        Ok(Wanted::Pool) | Err(_) => false,
    }
}

/// Loads the next `libcuda.so.1` and leads all symbols to it.
fn step_aside() -> bool {
    if DRIVER.get().is_some() {
        return true;
    }
    let Some(path) = next_driver() else { return false };
    let Ok(name) = CString::new(as_meant(&path).as_os_str().as_bytes()) else { return false };
    // SAFETY: a driver is made to be loaded into any process.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        report::once(&format!("the machine's own driver, {}, cannot be loaded", path.display()));
        return false;
    }
    if DRIVER.set(Driver(handle)).is_err() {
        return true;
    }
    for (name, slot) in NAMES.iter().zip(&SLOTS) {
        // A symbol that an older driver does not have answers as before `cuInit`.
        if let Some(address) = find(name) {
            slot.store(address, Ordering::Release);
        }
    }
    true
}

/// The path by which `native/audit`, where it is in use, lets a driver pass.
fn as_meant(path: &Path) -> PathBuf {
    match place::variable(c"LD_AUDIT") {
        Some(_) => Path::new("/proc/self/root").join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

/// The first `libcuda.so.1` on the loader's way that is not this library.
fn next_driver() -> Option<PathBuf> {
    let own = own_file()?;
    let mut folders: Vec<PathBuf> = Vec::new();
    let path = place::variable(c"LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(path.split(':').filter(|folder| folder.starts_with('/')).map(PathBuf::from));
    folders.extend(configured_folders());
    folders.extend(USUAL_FOLDERS.iter().map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join("libcuda.so.1")).find(|path| is_other(path, &own))
}

/// What the loader's configuration names; lines that include other files mean those of its folder.
fn configured_folders() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir("/etc/ld.so.conf.d")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files.push("/etc/ld.so.conf".into());
    let lines = files.iter().filter_map(|path| std::fs::read_to_string(path).ok()).flat_map(|text| {
        let words = text.lines().filter(|line| line.starts_with('/')).map(|line| PathBuf::from(line.trim()));
        words.collect::<Vec<_>>()
    });
    lines.collect()
}

/// The file that this code was loaded from.
fn own_file() -> Option<PathBuf> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    let here: *const c_void = std::ptr::from_ref(&SLOTS).cast();
    // SAFETY: the place is valid, and read only when it was filled; the name is the loader's and stays.
    unsafe {
        if libc::dladdr(here, found.as_mut_ptr()) == 0 {
            return None;
        }
        let name = found.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(CStr::from_ptr(name).to_bytes())))
    }
}

/// Whether there is a library at `path`, and neither this one nor a copy of it.
fn is_other(path: &Path, own: &Path) -> bool {
    let (Ok(other), Ok(this)) = (std::fs::metadata(path), std::fs::metadata(own)) else {
        return path.exists();
    };
    if (other.dev(), other.ino()) == (this.dev(), this.ino()) {
        return false;
    }
    other.len() != this.len() || beginning(path) != beginning(own)
}

fn beginning(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(COMPARED_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
