//! The tables themselves and the functions in their slots.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context_local::{self, Destructor};
use super::{
    INVALID_CONTEXT, INVALID_HANDLE, INVALID_VALUE, NOT_INITIALIZED, NOT_SUPPORTED, RawResult, SUCCESS, Slot,
    UNKNOWN, host,
};
use crate::integrity::{self, IntegrityFacts};

type Pointer = *mut c_void;

const fn size(slots: usize) -> Slot {
    Slot { size: slots * size_of::<Slot>() }
}

const fn function(address: *const c_void) -> Slot {
    Slot { function: address }
}

const UNUSED: Slot = function(not_supported as *const c_void);

/// `with!(LENGTH; 1 => f, 2 => g)`: a table of LENGTH slots whose slot 0 is its size.
macro_rules! with {
    ($length:literal; $($index:literal => $name:ident),* $(,)?) => {{
        let mut table = [UNUSED; $length];
        table[0] = size($length);
        $( table[$index] = function($name as *const c_void); )*
        table
    }};
}

static CUDART_INTERFACE: [Slot; 13] = with!(13;
    1 => module_from_fatbin, 2 => primary_context, 6 => module_from_fatbin_extended,
    7 => cudart_7, 8 => module_from_fatbin_header, 12 => load_compilers);
static TOOLS_TLS: [Slot; 4] = with!(4;);
static TOOLS_HOOKS: [Slot; 7] = with!(7; 2 => hooks_buffer, 6 => hooks_small_buffer);
static CONTEXT_LOCAL: [Slot; 4] = [
    function(storage_put as *const c_void),
    function(storage_delete as *const c_void),
    function(storage_get as *const c_void),
    UNUSED,
];
static CONTEXT_CHECKS: [Slot; 4] = with!(4; 2 => context_check, 3 => context_check_3);
static INTEGRITY: [Slot; 3] = with!(3; 1 => integrity_check);
static CONTEXT_CREATION: [Slot; 2] = with!(2; 1 => create_context);
static HEAP_ACCESS: [Slot; 3] = with!(3; 1 => heap_alloc, 2 => heap_free);
static DEVICE_EXTENDED: [Slot; 26] = with!(26; 5 => device_attribute, 13 => device_13);
static TOOLS_CONTEXT: [Slot; 64] =
    with!(64; 4 => tools_context_4, 39 => tools_context_39, 51 => tools_context_51);
static TOOLS_MODULE: [Slot; 8] = with!(8;);

/// The table with this UUID.
pub(super) fn table(uuid: &[u8; 16]) -> Option<*const c_void> {
    let table: &'static [Slot] = match u128::from_be_bytes(*uuid) {
        0x6bd5fb6c_5bf4_e74a_8987_d93912fd9df9 => &CUDART_INTERFACE,
        0x42d85a81_23f6_cb47_8298_f6e78a3aecdc => &TOOLS_TLS,
        0xa094798c_2e74_2e74_93f2_0800200c0a66 => &TOOLS_HOOKS,
        0xc693336e_1121_df11_a8c3_68f355d89593 => &CONTEXT_LOCAL,
        0x263e8860_7cd2_6143_92f6_bbd5006dfa7e => &CONTEXT_CHECKS,
        0xd4082055_bde6_704b_8d34_ba123c66e1f2 => &INTEGRITY,
        0x0ca50b8c_1004_929a_89a7_d0df10e77286 => &CONTEXT_CREATION,
        0x195bcbf4_d67d_024a_acc5_1d29cea631ae => &HEAP_ACCESS,
        0xb10541e1_f7c7_c74a_9f64_f223be99f1e2 => &DEVICE_EXTENDED,
        0x21318c60_9714_3248_8ca6_41ff7324c8f2 => &TOOLS_CONTEXT,
        0x6e163fbe_b958_444d_835c_e182aff1991e => &TOOLS_MODULE,
        _ => return None,
    };
    Some(table.as_ptr().cast())
}

/// Runs a slot's body; a panic becomes `CUDA_ERROR_UNKNOWN`.
fn guarded(body: impl FnOnce() -> Result<(), RawResult>) -> RawResult {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => UNKNOWN,
    }
}

/// Stores through a pointer that the caller gave, which may be null.
///
/// # Safety
/// `out` is null or writable as a `T`.
unsafe fn store<T>(out: *mut T, value: T) -> Result<(), RawResult> {
    if out.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { out.write(value) };
    Ok(())
}

/// The context meant by a context argument for which null means the current one.
fn context_or_current(context: Pointer) -> Option<Pointer> {
    if !context.is_null() {
        return Some(context);
    }
    let current = (host()?.current_context)();
    (!current.is_null()).then_some(current)
}

extern "C" fn not_supported() -> RawResult {
    NOT_SUPPORTED
}

unsafe extern "C" fn module_from_fatbin(out: *mut Pointer, wrapper: *const c_void) -> RawResult {
    guarded(|| {
        let module = (host().ok_or(NOT_INITIALIZED)?.module_from_fatbin)(wrapper)?;
        // SAFETY: the interface makes `out` a pointer to a module handle.
        unsafe { store(out, module) }
    })
}

unsafe extern "C" fn primary_context(out: *mut Pointer, device: c_int) -> RawResult {
    guarded(|| {
        let context = (host().ok_or(NOT_INITIALIZED)?.primary_context)(device)?;
        // SAFETY: the interface makes `out` a pointer to a context handle.
        unsafe { store(out, context) }
    })
}

unsafe extern "C" fn module_from_fatbin_extended(
    out: *mut Pointer,
    wrapper: *const c_void,
    _: Pointer,
    _: Pointer,
    _: c_uint,
) -> RawResult {
    // SAFETY: the same arguments, the same promises.
    unsafe { module_from_fatbin(out, wrapper) }
}

unsafe extern "C" fn module_from_fatbin_header(
    header: *const c_void,
    out: *mut Pointer,
    _: Pointer,
    _: Pointer,
    _: c_uint,
) -> RawResult {
    // SAFETY: the same arguments in another order, the same promises.
    unsafe { module_from_fatbin(out, header) }
}

extern "C" fn cudart_7(_: usize) -> RawResult {
    SUCCESS
}

extern "C" fn load_compilers() {}

/// Memory that the runtime's tools interface writes to and nobody reads.
struct Scratch<const N: usize>(UnsafeCell<[usize; N]>);

// SAFETY: only its address is used here; what the runtime does with the bytes is its own affair.
unsafe impl<const N: usize> Sync for Scratch<N> {}

static HOOKS_BUFFER: Scratch<1024> = Scratch(UnsafeCell::new([0; 1024]));
static HOOKS_SMALL_BUFFER: Scratch<14> = Scratch(UnsafeCell::new([0; 14]));
static TOOLS_OBJECT: Scratch<64> = Scratch(UnsafeCell::new([0; 64]));

unsafe extern "C" fn hooks_buffer(out: *mut Pointer, out_size: *mut usize) -> RawResult {
    // SAFETY: the interface makes both arguments out pointers.
    guarded(|| unsafe { store(out, HOOKS_BUFFER.0.get().cast()).and_then(|()| store(out_size, 1024)) })
}

unsafe extern "C" fn hooks_small_buffer(out: *mut Pointer, out_size: *mut usize) -> RawResult {
    // SAFETY: the interface makes both arguments out pointers.
    guarded(|| unsafe { store(out, HOOKS_SMALL_BUFFER.0.get().cast()).and_then(|()| store(out_size, 14)) })
}

unsafe extern "C" fn storage_put(
    context: Pointer,
    key: Pointer,
    value: Pointer,
    destructor: Option<Destructor>,
) -> RawResult {
    guarded(|| {
        let context = context_or_current(context).ok_or(INVALID_CONTEXT)?;
        context_local::put(context, key, value, destructor);
        Ok(())
    })
}

unsafe extern "C" fn storage_delete(context: Pointer, key: Pointer) -> RawResult {
    guarded(|| {
        let context = context_or_current(context).ok_or(INVALID_HANDLE)?;
        context_local::delete(context, key).then_some(()).ok_or(INVALID_HANDLE)
    })
}

unsafe extern "C" fn storage_get(out: *mut Pointer, context: Pointer, key: Pointer) -> RawResult {
    guarded(|| {
        let found = context_or_current(context).and_then(|context| context_local::get(context, key));
        // SAFETY: the interface makes `out` a pointer to a value.
        unsafe { store(out, found.ok_or(INVALID_HANDLE)?) }
    })
}

unsafe extern "C" fn context_check(_: Pointer, out: *mut c_uint, _: *mut *const c_void) -> RawResult {
    // SAFETY: the interface makes `out` a pointer to a number. The second out pointer is left alone.
    guarded(|| unsafe { store(out, 0) })
}

extern "C" fn context_check_3() -> c_uint {
    0
}

unsafe extern "C" fn integrity_check(version: c_uint, unix_seconds: u64, out: *mut [u8; 16]) -> RawResult {
    guarded(|| {
        let host = host().ok_or(NOT_INITIALIZED)?;
        let devices = (host.devices)();
        // SAFETY: `pthread_self` has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        let check: unsafe extern "C" fn(c_uint, u64, *mut [u8; 16]) -> RawResult = integrity_check;
        let facts = IntegrityFacts {
            driver_version: (host.driver_version)().ok_or(NOT_INITIALIZED)?,
            process_id: std::process::id(),
            thread,
            cudart_table: CUDART_INTERFACE.as_ptr().addr() as u64,
            integrity_table: INTEGRITY.as_ptr().addr() as u64,
            check_function: (check as *const c_void).addr() as u64,
            devices: &devices,
        };
        // SAFETY: the interface makes `out` a pointer to 16 bytes.
        unsafe { store(out, integrity::answer(version, unix_seconds, &facts)) }
    })
}

unsafe extern "C" fn create_context(out: *mut Pointer, flags: c_uint, device: c_int) -> RawResult {
    guarded(|| {
        let context = (host().ok_or(NOT_INITIALIZED)?.create_context)(flags, device)?;
        // SAFETY: the interface makes `out` a pointer to a context handle.
        unsafe { store(out, context) }
    })
}

/// What the heap-access table hands out, beside `malloc`'d bytes: pointer to the bytes and their number.
#[repr(C)]
struct HeapRecord {
    record: *const Self,
    bytes: usize,
    user: usize,
}

unsafe extern "C" fn heap_alloc(out: *mut *const HeapRecord, user: usize, bytes: usize) -> RawResult {
    guarded(|| {
        let total = bytes.checked_add(size_of::<HeapRecord>()).ok_or(INVALID_VALUE)?;
        // SAFETY: `malloc` takes any size.
        let record: *mut HeapRecord = unsafe { libc::malloc(total) }.cast();
        if record.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the block holds a record, aligned as malloc's blocks are.
        unsafe { record.write(HeapRecord { record, bytes, user }) };
        // SAFETY: the interface makes `out` a pointer to a pointer.
        unsafe { store(out, record.cast_const()) }
    })
}

unsafe extern "C" fn heap_free(record: *const HeapRecord, out_user: *mut usize) -> RawResult {
    guarded(|| {
        if record.is_null() {
            return Err(INVALID_VALUE);
        }
        if !out_user.is_null() {
            // SAFETY: `record` came from `heap_alloc`; `out_user` is writable by the interface.
            unsafe { out_user.write((*record).user) };
        }
        // SAFETY: `record` came from `malloc` in `heap_alloc`.
        unsafe { libc::free(record.cast_mut().cast()) };
        Ok(())
    })
}

unsafe extern "C" fn device_attribute(
    device: c_int,
    attribute: c_int,
    _: c_int,
    out: *mut [usize; 2],
) -> RawResult {
    guarded(|| {
        let value = (host().ok_or(NOT_INITIALIZED)?.device_attribute)(attribute, device)?;
        // SAFETY: the interface makes `out` a pointer to two words.
        unsafe { store(out, [usize::try_from(value).unwrap_or(0), 0]) }
    })
}

unsafe extern "C" fn device_13(out: *mut u8, _: c_int) -> RawResult {
    // SAFETY: the interface makes `out` a pointer to a byte.
    guarded(|| unsafe { store(out, 0) })
}

unsafe extern "C" fn tools_context_4(_: Pointer, out: *mut c_uint) -> RawResult {
    // SAFETY: the interface makes `out` a pointer to a number; 0 says that no tool is attached.
    guarded(|| unsafe { store(out, 0) })
}

unsafe extern "C" fn tools_context_39(_: Pointer, out: *mut c_uint) -> RawResult {
    // SAFETY: the interface makes `out` a pointer to a number.
    guarded(|| unsafe { store(out, 0) })
}

unsafe extern "C" fn tools_context_51(_: Pointer, out: *mut Pointer) -> RawResult {
    // SAFETY: the interface makes `out` a pointer to an object's address.
    guarded(|| unsafe { store(out, TOOLS_OBJECT.0.get().cast()) })
}
