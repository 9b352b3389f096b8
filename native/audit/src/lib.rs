//! `libfarpool_audit.so`, for `LD_AUDIT` (rtld-audit(7)): a program that loads `libcuda.so.1` or `libnvidia-ml.so.1` by its
//! path, or finds one by its own RPATH, gets Farpool's instead. Nobody needs it whose programs ask by name.
//!
//! The loader puts it into a namespace of its own, and asks it for every library that it looks for. It keeps nothing but two
//! names, and says nothing.

use std::ffi::{CStr, CString, c_char, c_uint, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;

/// The interface that the loader had first; nothing of later ones is used.
const LAV_CURRENT: c_uint = 1;

/// The name as the program, or a library of it, gave it.
const LA_SER_ORIG: c_uint = 1;
/// A place that the RPATH or RUNPATH of whoever asks leads to.
const LA_SER_RUNPATH: c_uint = 4;

/// What begins so is meant: the shim loads the machine's own driver by such a path when it steps aside.
const MEANT: &[u8] = b"/proc/self/root/";

/// Where Farpool's libraries are, as the loader wants to be told.
struct Ours {
    cuda: CString,
    nvml: CString,
}

static OURS: OnceLock<Option<Ours>> = OnceLock::new();

/// The loader asks first whether this library speaks its interface.
#[unsafe(no_mangle)]
pub extern "C" fn la_version(_newest: c_uint) -> c_uint {
    OURS.get_or_init(|| ours(&own_file()?));
    LAV_CURRENT
}

/// The loader looks for the library `name`; answers where to look instead.
///
/// # Safety
///
/// `name` is a string that ends with a zero: the loader's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn la_objsearch(name: *const c_char, _cookie: *mut usize, flag: c_uint) -> *mut c_char {
    let replaced = OURS.get().and_then(Option::as_ref).filter(|_| !name.is_null()).and_then(|ours| {
        // SAFETY: the loader's string outlives the call.
        instead(ours, unsafe { CStr::from_ptr(name) }, flag)
    });
    // The loader does not write to it.
    replaced.map_or(name, CStr::as_ptr).cast_mut()
}

fn instead<'a>(ours: &'a Ours, name: &CStr, flag: c_uint) -> Option<&'a CStr> {
    let bytes = name.to_bytes();
    let slash = bytes.iter().rposition(|byte| *byte == b'/')?;
    if !matches!(flag, LA_SER_ORIG | LA_SER_RUNPATH) || bytes.starts_with(MEANT) {
        return None;
    }
    match &bytes[slash + 1..] {
        b"libcuda.so" | b"libcuda.so.1" => Some(&ours.cuda),
        b"libnvidia-ml.so" | b"libnvidia-ml.so.1" => Some(&ours.nvml),
        _ => None,
    }
}

/// Beside the folder of `file`, if they are there: else nothing is led anywhere.
fn ours(file: &Path) -> Option<Ours> {
    let shim = file.parent()?.parent()?.join("shim");
    let named = |name: &str| {
        let path = shim.join(name);
        path.exists().then(|| CString::new(path.as_os_str().as_bytes()).ok())?
    };
    Some(Ours { cuda: named("libcuda.so.1")?, nvml: named("libnvidia-ml.so.1")? })
}

/// The file that this code was loaded from.
fn own_file() -> Option<PathBuf> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    let here: *const c_void = ptr::from_ref(&OURS).cast();
    // SAFETY: the place is valid, and read only when it was filled; the name is the loader's and stays.
    let name = unsafe {
        if libc::dladdr(here, found.as_mut_ptr()) == 0 {
            return None;
        }
        let name = found.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    std::fs::canonicalize(std::ffi::OsStr::from_bytes(name.to_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &CStr, flag: c_uint) -> Option<String> {
        let ours = Ours { cuda: c"/shim/libcuda.so.1".into(), nvml: c"/shim/libnvidia-ml.so.1".into() };
        instead(&ours, name, flag).map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn only_nvidias_two_libraries_are_led_elsewhere_and_only_by_path() {
        let cuda = Some("/shim/libcuda.so.1".to_owned());
        assert_eq!(asked(c"/usr/lib/x86_64-linux-gnu/libcuda.so.1", LA_SER_ORIG), cuda);
        assert_eq!(asked(c"./libcuda.so", LA_SER_ORIG), cuda);
        assert_eq!(asked(c"/opt/app/lib/libcuda.so.1", LA_SER_RUNPATH), cuda);
        assert_eq!(
            asked(c"/usr/lib64/libnvidia-ml.so.1", LA_SER_ORIG),
            Some("/shim/libnvidia-ml.so.1".to_owned())
        );
        assert_eq!(asked(c"/proc/self/root/usr/lib64/libcuda.so.1", LA_SER_ORIG), None);
        // By name the loader's own order counts; of the places on it those that were configured are meant, too.
        assert_eq!(asked(c"libcuda.so.1", LA_SER_ORIG), None);
        assert_eq!(asked(c"/usr/lib64/libcuda.so.1", 2), None);
        assert_eq!(asked(c"/usr/lib64/libcudart.so.13", LA_SER_ORIG), None);
        assert_eq!(asked(c"/usr/lib64/libcuda.so.1.old", LA_SER_ORIG), None);
    }

    #[test]
    fn nothing_is_led_where_nothing_is() {
        assert!(ours(Path::new("/nowhere/lib/audit/libfarpool_audit.so")).is_none());
        assert!(ours(Path::new("libfarpool_audit.so")).is_none());
    }
}
