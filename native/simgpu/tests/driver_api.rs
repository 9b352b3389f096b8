//! The library through its own interface, loaded with `dlopen`.

mod kit;

use std::ffi::{CString, c_void};
use std::time::{Duration, Instant};

use cuda_abi::*;
use kit::{Driver, call, expect_pass};

const LEGACY: CUstream = CUstream::NULL;

/// Runs the case that the environment names; as a test of its own it has none.
#[test]
fn run_case() {
    match std::env::var("SIMGPU_TEST_CASE").as_deref() {
        Ok("launch_and_copy") => launch_and_copy(),
        Ok("sticky_error") => sticky_error(),
        Ok("misuse") => misuse(),
        Ok("launch_limit") => launch_limit(),
        Ok("asynchronous") => asynchronous(),
        Ok("stream_order") => stream_order(),
        Ok("host_function") => host_function(),
        Ok("memory") => memory(),
        Ok("fork") => fork(),
        Ok("two_devices") => two_devices(),
        Ok("different_devices") => different_devices(),
        Ok("bad_images") => bad_images(),
        Ok("finding") => finding(),
        Ok("primary_reset") => primary_reset(),
        Ok("mutated_images") => mutated_images(),
        Ok(other) => panic!("no case {other}"),
        Err(_) => {}
    }
}

#[test]
fn a_kernel_stores_and_a_copy_reads() {
    expect_pass("launch_and_copy", &[]);
}

fn launch_and_copy() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let at = driver.allocate(4096).unwrap();
    assert_eq!(driver.store(function, at, 42, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.read(at), Ok(42));
    let (mut offset, mut size) = (0, 0);
    let info = call!(driver, cuFuncGetParamInfo, PFN_cuFuncGetParamInfo, function, 1, &mut offset, &mut size);
    assert_eq!((info, offset, size), (CUresult::SUCCESS, 8, 4));
    assert_eq!(call!(driver, cuMemsetD32_v2, PFN_cuMemsetD32_v2, at, 7, 1024), CUresult::SUCCESS);
    assert_eq!(driver.read(at + 4092), Ok(7));
}

#[test]
fn an_illegal_address_poisons_the_context_with_the_same_code() {
    expect_pass("sticky_error", &[]);
}

fn sticky_error() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let at = driver.allocate(64).unwrap();
    assert_eq!(driver.store(function, at + 64, 1, LEGACY), CUresult::SUCCESS, "the launch itself succeeds");
    for _ in 0..2 {
        assert_eq!(driver.synchronize(), CUresult::ILLEGAL_ADDRESS);
        assert_eq!(driver.allocate(4), Err(CUresult::ILLEGAL_ADDRESS));
        assert_eq!(driver.store(function, at, 1, LEGACY), CUresult::ILLEGAL_ADDRESS);
        assert_eq!(driver.read(at), Err(CUresult::ILLEGAL_ADDRESS));
        assert_eq!(call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at), CUresult::ILLEGAL_ADDRESS);
    }
    let mut context = CUcontext::NULL;
    assert_eq!(call!(driver, cuCtxGetCurrent, PFN_cuCtxGetCurrent, &mut context), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuCtxDestroy_v2, PFN_cuCtxDestroy_v2, context), CUresult::SUCCESS);
    driver.create_context();
    let function = driver.store_function();
    let at = driver.allocate(64).unwrap();
    assert_eq!(driver.store(function, at + 2, 1, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::MISALIGNED_ADDRESS);
}

#[test]
fn misuse_is_answered_not_followed() {
    expect_pass("misuse", &[]);
}

fn misuse() {
    let driver = Driver::load();
    assert_eq!(driver.allocate(4), Err(CUresult::NOT_INITIALIZED));
    assert_eq!(call!(driver, cuInit, PFN_cuInit, 1), CUresult::INVALID_VALUE);
    assert_eq!(call!(driver, cuInit, PFN_cuInit, 0), CUresult::SUCCESS);
    assert_eq!(driver.allocate(4), Err(CUresult::INVALID_CONTEXT));
    let context = driver.create_context();
    let function = driver.store_function();
    let at = driver.allocate(64).unwrap();
    assert_eq!(driver.launch(function, [0, 1, 1], [1, 1, 1], at, 1, LEGACY), CUresult::INVALID_VALUE);
    assert_eq!(driver.launch(function, [1, 1, 1], [1025, 1, 1], at, 1, LEGACY), CUresult::INVALID_VALUE);
    assert_eq!(driver.launch(function, [1, 65536, 1], [1, 1, 1], at, 1, LEGACY), CUresult::INVALID_VALUE);
    assert_eq!(driver.store(CUfunction(0x1234), at, 1, LEGACY), CUresult::INVALID_HANDLE);
    assert_eq!(driver.store(function, at, 1, CUstream(0x1234)), CUresult::INVALID_HANDLE);
    assert_eq!(driver.allocate(0), Err(CUresult::INVALID_VALUE));
    let null = std::ptr::null_mut();
    assert_eq!(call!(driver, cuMemAlloc_v2, PFN_cuMemAlloc_v2, null, 4), CUresult::INVALID_VALUE);
    assert_eq!(
        call!(driver, cuMemcpyHtoD_v2, PFN_cuMemcpyHtoD_v2, at + 60, [0_u8; 8].as_ptr().cast(), 8),
        CUresult::INVALID_VALUE
    );
    assert_eq!(
        call!(driver, cuMemcpyHtoD_v2, PFN_cuMemcpyHtoD_v2, 0x10, [0_u8; 8].as_ptr().cast(), 8),
        CUresult::INVALID_VALUE
    );
    assert_eq!(call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at + 4), CUresult::INVALID_VALUE);
    assert_eq!(call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at), CUresult::INVALID_VALUE);
    assert_eq!(call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, 0), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuCtxDestroy_v2, PFN_cuCtxDestroy_v2, context), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuCtxDestroy_v2, PFN_cuCtxDestroy_v2, context), CUresult::INVALID_CONTEXT);
    assert_eq!(driver.allocate(4), Err(CUresult::INVALID_CONTEXT));
}

#[test]
fn launches_block_their_caller_at_1024_unfinished_ones() {
    let null = [("FARPOOL_SIMGPU_NULL", "1"), ("FARPOOL_SIMGPU_KERNEL_NS", "10000000")];
    expect_pass("launch_limit", &null);
}

fn launch_limit() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let begin = Instant::now();
    (0..1000).for_each(|_| assert_eq!(driver.store(function, 0, 1, LEGACY), CUresult::SUCCESS));
    let free_running = begin.elapsed();
    (0..200).for_each(|_| assert_eq!(driver.store(function, 0, 1, LEGACY), CUresult::SUCCESS));
    let throttled = begin.elapsed();
    assert!(free_running < Duration::from_secs(3), "{free_running:?}: launches of 10 ms each do not wait");
    // 176 of 1,200 kernels have to be done before the last launch may return.
    assert!(throttled > Duration::from_millis(1760), "{throttled:?}");
    // The process ends without waiting for the rest.
}

#[test]
fn work_runs_asynchronously() {
    let null = [("FARPOOL_SIMGPU_NULL", "1"), ("FARPOOL_SIMGPU_KERNEL_NS", "200000000")];
    expect_pass("asynchronous", &null);
}

fn asynchronous() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let stream = driver.create_stream(0);
    let mut events = [CUevent::NULL; 2];
    for event in &mut events {
        assert_eq!(call!(driver, cuEventCreate, PFN_cuEventCreate, event, 0), CUresult::SUCCESS);
    }
    assert_eq!(call!(driver, cuEventRecord, PFN_cuEventRecord, events[0], stream), CUresult::SUCCESS);
    assert_eq!(driver.store(function, 0, 1, stream), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuEventRecord, PFN_cuEventRecord, events[1], stream), CUresult::SUCCESS);
    let mut milliseconds = 0.0_f32;
    let elapsed = |out: &mut f32| {
        call!(driver, cuEventElapsedTime_v2, PFN_cuEventElapsedTime_v2, out, events[0], events[1])
    };
    assert_eq!(call!(driver, cuStreamQuery, PFN_cuStreamQuery, stream), CUresult::NOT_READY);
    assert_eq!(call!(driver, cuEventQuery, PFN_cuEventQuery, events[1]), CUresult::NOT_READY);
    assert_eq!(elapsed(&mut milliseconds), CUresult::NOT_READY);
    assert_eq!(call!(driver, cuEventSynchronize, PFN_cuEventSynchronize, events[1]), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuStreamQuery, PFN_cuStreamQuery, stream), CUresult::SUCCESS);
    assert_eq!(elapsed(&mut milliseconds), CUresult::SUCCESS);
    assert!((190.0..2000.0).contains(&milliseconds), "{milliseconds}");
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_only() {
    let null = [("FARPOOL_SIMGPU_NULL", "1"), ("FARPOOL_SIMGPU_KERNEL_NS", "200000000")];
    expect_pass("stream_order", &null);
}

fn stream_order() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let blocking = driver.create_stream(0);
    let free = driver.create_stream(CU_STREAM_NON_BLOCKING);
    let done = |stream| call!(driver, cuStreamQuery, PFN_cuStreamQuery, stream);
    assert_eq!(driver.store(function, 0, 1, free), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuStreamSynchronize, PFN_cuStreamSynchronize, LEGACY), CUresult::SUCCESS);
    assert_eq!(done(free), CUresult::NOT_READY, "the legacy stream does not wait for it");
    assert_eq!(driver.store(function, 0, 1, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.store(function, 0, 1, blocking), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuStreamSynchronize, PFN_cuStreamSynchronize, blocking), CUresult::SUCCESS);
    assert_eq!(done(LEGACY), CUresult::SUCCESS, "the blocking stream ran after the legacy one");
    assert_eq!(driver.synchronize(), CUresult::SUCCESS);
}

#[test]
fn calls_inside_host_functions_are_not_permitted() {
    expect_pass("host_function", &[]);
}

struct Shared<'a> {
    driver: &'a Driver,
    answer: Option<Result<u64, CUresult>>,
}

unsafe extern "C" fn allocate_in_host_function(data: *mut c_void) {
    // SAFETY: the case passes its own structure and waits.
    let shared = unsafe { &mut *data.cast::<Shared<'_>>() };
    shared.answer = Some(shared.driver.allocate(4));
}

fn host_function() {
    let driver = Driver::with_context();
    let mut shared = Shared { driver: &driver, answer: None };
    let data = (&raw mut shared).cast();
    assert_eq!(
        call!(driver, cuLaunchHostFunc, PFN_cuLaunchHostFunc, LEGACY, Some(allocate_in_host_function), data),
        CUresult::SUCCESS
    );
    assert_eq!(driver.synchronize(), CUresult::SUCCESS);
    assert_eq!(shared.answer, Some(Err(CUresult::NOT_PERMITTED)));
}

#[test]
fn memory_is_bounded_patterned_and_described() {
    expect_pass("memory", &[("FARPOOL_SIMGPU_CONTEXT_MEMORY", "64MiB")]);
}

fn memory() {
    let driver = Driver::with_context();
    assert_eq!(driver.free_bytes(), (1024 - 64) << 20, "a context costs memory");
    assert_eq!(driver.allocate(961 << 20), Err(CUresult::OUT_OF_MEMORY));
    let at = driver.allocate(960 << 20).unwrap();
    assert_eq!(driver.free_bytes(), 0);
    assert_eq!(driver.allocate(1), Err(CUresult::OUT_OF_MEMORY));
    assert_eq!(call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at), CUresult::SUCCESS);
    let at = driver.allocate(100).unwrap();
    assert_eq!(driver.read(at), Ok(0xcdcd_cdcd), "fresh memory is not zero");
    assert!(at.is_multiple_of(256));
    let (mut base, mut size) = (0, 0);
    let range =
        call!(driver, cuMemGetAddressRange_v2, PFN_cuMemGetAddressRange_v2, &mut base, &mut size, at + 99);
    assert_eq!((range, base, size), (CUresult::SUCCESS, at, 100));
    let mut kind = 0_i32;
    let data = (&raw mut kind).cast();
    let ask = |at| call!(driver, cuPointerGetAttribute, PFN_cuPointerGetAttribute, data, 2, at);
    assert_eq!((ask(at), kind), (CUresult::SUCCESS, CU_MEMORYTYPE_DEVICE));
    assert_eq!(ask(0x10), CUresult::INVALID_VALUE);
}

#[test]
fn a_forked_child_is_not_initialised() {
    expect_pass("fork", &[]);
}

fn fork() {
    let driver = Driver::with_context();
    driver.allocate(64).unwrap();
    // SAFETY: the child only calls the library and exits.
    let child = unsafe { libc_fork() };
    if child == 0 {
        let refused = driver.allocate(4) == Err(CUresult::NOT_INITIALIZED)
            && call!(driver, cuInit, PFN_cuInit, 0) == CUresult::NOT_INITIALIZED;
        std::process::exit(if refused { 7 } else { 8 });
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    unsafe { waitpid(child, &mut status, 0) };
    assert_eq!(status >> 8, 7);
    driver.allocate(64).unwrap();
}

unsafe extern "C" {
    #[link_name = "fork"]
    fn libc_fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
}

#[test]
fn devices_differ_in_memory_and_bear_a_suffix() {
    let settings = [
        ("FARPOOL_SIMGPU_DEVICES", "3"),
        ("FARPOOL_SIMGPU_MEMORY", "256MiB, 1GiB"),
        ("FARPOOL_SIMGPU_NAME_SUFFIX", "(small)"),
        ("FARPOOL_SIMGPU_CONTEXT_MS", "30"),
    ];
    expect_pass("different_devices", &settings);
}

fn different_devices() {
    let started = Instant::now();
    let driver = Driver::with_context();
    assert!(started.elapsed() >= Duration::from_millis(30), "a context takes its time");
    for (device, expected) in [(0, 256 << 20), (1, 1 << 30), (2, 1 << 30)] {
        let mut total = 0;
        let code = call!(driver, cuDeviceTotalMem_v2, PFN_cuDeviceTotalMem_v2, &mut total, device);
        assert_eq!((code, total), (CUresult::SUCCESS, expected), "device {device}");
        let mut name = [0; 64];
        let code = call!(driver, cuDeviceGetName, PFN_cuDeviceGetName, name.as_mut_ptr(), 64, device);
        assert_eq!(code, CUresult::SUCCESS);
        // SAFETY: the call has ended the text with a zero.
        let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) };
        assert_eq!(name.to_str(), Ok("Farpool Simulated GPU (small)"));
    }
    assert_eq!(driver.allocate(512 << 20), Err(CUresult::OUT_OF_MEMORY), "the first device is small");
}

#[test]
fn two_devices_reach_each_other_when_told_to() {
    expect_pass("two_devices", &[("FARPOOL_SIMGPU_DEVICES", "3"), ("CUDA_VISIBLE_DEVICES", "2,0")]);
}

fn two_devices() {
    let driver = Driver::with_context();
    let mut count = 0;
    assert_eq!(call!(driver, cuDeviceGetCount, PFN_cuDeviceGetCount, &mut count), CUresult::SUCCESS);
    assert_eq!(count, 2);
    let mut bus = 0;
    assert_eq!(
        call!(driver, cuDeviceGetAttribute, PFN_cuDeviceGetAttribute, &mut bus, 33, 0),
        CUresult::SUCCESS
    );
    assert_eq!(bus, 3, "the third device comes first");
    let function = driver.store_function();
    let mut other = CUcontext::NULL;
    let mut first = CUcontext::NULL;
    assert_eq!(call!(driver, cuCtxGetCurrent, PFN_cuCtxGetCurrent, &mut first), CUresult::SUCCESS);
    let none = std::ptr::null_mut();
    assert_eq!(call!(driver, cuCtxCreate_v4, PFN_cuCtxCreate_v4, &mut other, none, 0, 1), CUresult::SUCCESS);
    let there = driver.allocate(64).unwrap();
    assert_eq!(call!(driver, cuCtxSetCurrent, PFN_cuCtxSetCurrent, first), CUresult::SUCCESS);
    let enable = || call!(driver, cuCtxEnablePeerAccess, PFN_cuCtxEnablePeerAccess, other, 0);
    assert_eq!(enable(), CUresult::SUCCESS);
    assert_eq!(enable(), CUresult::PEER_ACCESS_ALREADY_ENABLED);
    assert_eq!(driver.store(function, there, 5, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::SUCCESS);
    assert_eq!(driver.read(there), Ok(5));
    assert_eq!(call!(driver, cuCtxDisablePeerAccess, PFN_cuCtxDisablePeerAccess, other), CUresult::SUCCESS);
    assert_eq!(driver.store(function, there, 6, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::ILLEGAL_ADDRESS);
}

#[test]
fn bad_images_are_refused_with_a_sentence() {
    expect_pass("bad_images", &[]);
}

fn bad_images() {
    let driver = Driver::with_context();
    assert_eq!(driver.load_module(""), Err(CUresult::INVALID_IMAGE));
    assert_eq!(driver.load_module("rubbish"), Err(CUresult::INVALID_PTX));
    let broken = CString::new(STORE_WITH_A_TYPO).unwrap();
    let mut log = [0_u8; 256];
    let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
    let mut module = CUmodule::NULL;
    let loaded = call!(
        driver,
        cuModuleLoadDataEx,
        PFN_cuModuleLoadDataEx,
        &mut module,
        broken.as_ptr().cast(),
        2,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    );
    assert_eq!(loaded, CUresult::INVALID_PTX);
    let text = String::from_utf8_lossy(&log[..values[1].addr()]).into_owned();
    assert!(text.contains("line 6"), "{text}");
}

const STORE_WITH_A_TYPO: &str = ".version 8.0
.target sm_80
.address_size 64
.visible .entry store()
{
  mov.u32 %nothing, 1;
  ret;
}
";

#[test]
fn functions_and_tables_are_found() {
    expect_pass("finding", &[]);
}

fn finding() {
    let driver = Driver::load();
    let find = |name: &str, version, flags| {
        let name = CString::new(name).unwrap();
        let (mut address, mut status) = (std::ptr::null_mut(), -1);
        let result = call!(
            driver,
            cuGetProcAddress_v2,
            PFN_cuGetProcAddress_v2,
            name.as_ptr(),
            &mut address,
            version,
            flags,
            &mut status
        );
        (result, address, status)
    };
    let exported = *driver.symbol::<PFN_cuMemAlloc_v2>("cuMemAlloc_v2") as *mut c_void;
    assert_eq!(find("cuMemAlloc", 13000, 0), (CUresult::SUCCESS, exported, 0));
    assert_eq!(find("cuNothing", 13000, 0), (CUresult::SUCCESS, std::ptr::null_mut(), 1));
    let refused = CUuuid {
        bytes: [
            0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9,
        ],
    };
    let mut table = std::ptr::null();
    assert_eq!(
        call!(driver, cuGetExportTable, PFN_cuGetExportTable, &mut table, &refused),
        CUresult::NOT_SUPPORTED
    );
}

#[test]
fn no_changed_byte_of_an_image_ends_the_process() {
    expect_pass("mutated_images", &[]);
}

fn mutated_images() {
    let driver = Driver::with_context();
    let mut loaded = 0;
    for at in 0..kit::STORE.len() {
        for replacement in *b"{;9%.\xff" {
            let mut text = kit::STORE.as_bytes().to_vec();
            text[at] = replacement;
            let mut module = CUmodule::NULL;
            let image = CString::new(text).unwrap();
            let result =
                call!(driver, cuModuleLoadData, PFN_cuModuleLoadData, &mut module, image.as_ptr().cast());
            assert!(
                [CUresult::SUCCESS, CUresult::INVALID_PTX, CUresult::INVALID_IMAGE].contains(&result),
                "byte {at} as {replacement}: {result}"
            );
            if result == CUresult::SUCCESS {
                loaded += 1;
                assert_eq!(call!(driver, cuModuleUnload, PFN_cuModuleUnload, module), CUresult::SUCCESS);
            }
        }
    }
    assert!(loaded > 0, "some changes do no harm");
    let at = driver.allocate(4).unwrap();
    assert_eq!(driver.store(driver.store_function(), at, 3, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.read(at), Ok(3));
}

#[test]
fn a_reset_primary_context_is_valid_again_under_its_handle() {
    expect_pass("primary_reset", &[]);
}

type StoragePut = unsafe extern "C" fn(usize, usize, usize, *const c_void) -> i32;
type StorageGet = unsafe extern "C" fn(*mut usize, usize, usize) -> i32;

fn primary_reset() {
    let driver = Driver::load();
    assert_eq!(call!(driver, cuInit, PFN_cuInit, 0), CUresult::SUCCESS);
    let retain = || {
        let mut context = CUcontext::NULL;
        let result = call!(driver, cuDevicePrimaryCtxRetain, PFN_cuDevicePrimaryCtxRetain, &mut context, 0);
        (result, context)
    };
    let (result, context) = retain();
    assert_eq!(result, CUresult::SUCCESS);
    assert_eq!(call!(driver, cuCtxSetCurrent, PFN_cuCtxSetCurrent, context), CUresult::SUCCESS);
    let storage: [u8; 16] = 0xc693_336e_1121_df11_a8c3_68f3_55d8_9593_u128.to_be_bytes();
    let mut table = std::ptr::null();
    let uuid = CUuuid { bytes: storage };
    assert_eq!(call!(driver, cuGetExportTable, PFN_cuGetExportTable, &mut table, &uuid), CUresult::SUCCESS);
    // SAFETY: slots 0 and 2 of the table of context-local storage are these functions.
    let (put, get) = unsafe {
        let slots = table.cast::<*const c_void>();
        (
            std::mem::transmute::<*const c_void, StoragePut>(*slots),
            std::mem::transmute::<*const c_void, StorageGet>(*slots.add(2)),
        )
    };
    let mut value = 0;
    // SAFETY: the value's place is a number; there is no destructor.
    unsafe {
        assert_eq!(put(context.0, 1, 42, std::ptr::null()), 0);
        assert_eq!((get(&mut value, 0, 1), value), (0, 42), "null means the current context");
    }
    assert_eq!(
        call!(driver, cuDevicePrimaryCtxReset_v2, PFN_cuDevicePrimaryCtxReset_v2, 0),
        CUresult::SUCCESS
    );
    assert_eq!(driver.allocate(4), Err(CUresult::CONTEXT_IS_DESTROYED));
    // SAFETY: as above.
    assert_eq!(unsafe { get(&mut value, 0, 1) }, CUresult::INVALID_HANDLE.0, "the reset forgets the storage");
    assert_eq!(retain(), (CUresult::SUCCESS, context));
    driver.allocate(4).unwrap();
}
