//! The machine's own driver: the loader finds our libraries before the driver's, which have the same names. In a process
//! that is to use the machine's own GPU ours load the driver's, and lead their symbols there.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use crate::{Wanted, is_local_first, is_local_off, services, session, variable, wanted};

/// By this symbol one of Farpool's libraries knows another: one that lies elsewhere, and one of another release. Two that
/// took each other for a driver would lead each other's symbols in a circle.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a symbol's name")]
pub static farpool_shim: u8 = 1;

/// Folders that the loader looks into without being told.
const USUAL_FOLDERS: [&str; 5] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"];

/// Whether this process is to use the machine's own GPUs before any service is asked.
pub fn is_first() -> bool {
    if session().is_some() {
        return false;
    }
    match wanted() {
        Ok(Wanted::Local) => true,
        Ok(Wanted::Any) if is_local_off() => false,
        Ok(Wanted::Any) => is_local_first() || services().is_empty(),
        Ok(Wanted::Pool) | Err(_) => false,
    }
}

/// Whether this process may use them after no service would have it.
pub fn is_last() -> bool {
    session().is_none() && wanted() == Ok(Wanted::Any) && !is_local_off()
}

/// One library of the machine's own driver. It is never unloaded.
#[derive(Debug)]
pub struct Library(NonNull<c_void>);

// SAFETY: the handle of a library is the same for every thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Loads the first library called `name` on the loader's way that is none of Farpool's; `None` where there is none.
    /// Errors: the sentence for a user to whose driver something is the matter.
    pub fn load(name: &str) -> Result<Option<Library>, String> {
        load(folders().into_iter().map(|folder| folder.join(name)))
    }

    /// The function behind one of its symbols.
    pub fn find(&self, symbol: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is of a library that is never closed.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), symbol.as_ptr()) })
    }
}

/// What cannot be loaded is passed over, as the loader does with libraries of other architectures.
fn load(paths: impl Iterator<Item = PathBuf>) -> Result<Option<Library>, String> {
    let mut broken = None;
    for path in paths.filter(|path| path.exists()) {
        match open(&path) {
            Ok(library) if library.find(c"farpool_shim").is_none() => return Ok(Some(library)),
            Ok(Library(ours)) => {
                // SAFETY: opened just now, and used by nobody.
                unsafe { libc::dlclose(ours.as_ptr()) };
            }
            Err(reason) => {
                broken.get_or_insert_with(|| {
                    format!("the machine's own driver, {}, cannot be loaded ({reason})", path.display())
                });
            }
        }
    }
    broken.map_or(Ok(None), Err)
}

fn open(path: &Path) -> Result<Library, String> {
    const FLAGS: c_int = libc::RTLD_NOW | libc::RTLD_LOCAL;
    let name = CString::new(as_meant(path).as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a driver is made to be loaded into any process.
    let handle = unsafe { libc::dlopen(name.as_ptr(), FLAGS) };
    NonNull::new(handle).map(Library).ok_or_else(|| {
        // SAFETY: the text is this thread's, until its next call of the loader.
        let reason = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text)) };
        reason
            .map_or_else(|| "the loader does not say why".into(), |text| text.to_string_lossy().into_owned())
    })
}

/// The path by which `native/audit`, where it is in use, lets a driver pass.
fn as_meant(path: &Path) -> PathBuf {
    match variable(c"LD_AUDIT") {
        Some(_) => Path::new("/proc/self/root").join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

/// Where the loader looks, in its order.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let path = variable(c"LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(path.split([':', ';']).filter(|folder| folder.starts_with('/')).map(PathBuf::from));
    folders.extend(configured_folders());
    folders.extend(USUAL_FOLDERS.iter().map(PathBuf::from));
    folders
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A library of the C library's, which every process can load.
    const STAND_IN: &str = "libm.so.6";

    fn stand_in() -> PathBuf {
        let folder = USUAL_FOLDERS.iter().map(|folder| Path::new(folder).join(STAND_IN));
        folder.into_iter().find(|path| path.exists()).expect("a libm.so.6")
    }

    #[test]
    fn what_cannot_be_loaded_is_passed_over_and_told_only_where_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("farpool-place-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let broken = folder.join("libcuda.so.1");
        std::fs::write(&broken, "of another architecture").expect("a file");

        let library = load([broken.clone(), stand_in()].into_iter()).expect("no error").expect("a library");
        assert!(library.find(c"cos").is_some() && library.find(c"cuInit").is_none());
        let sentence = load([broken.clone()].into_iter()).expect_err("broken");
        assert!(
            sentence
                .starts_with(&format!("the machine's own driver, {}, cannot be loaded (", broken.display()))
        );
        assert!(load([folder.join("none")].into_iter()).expect("no error").is_none());
        let _ = std::fs::remove_dir_all(&folder);
    }
}
