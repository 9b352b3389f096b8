//! Virtual memory management through the library's own interface.

mod kit;

use std::ffi::c_void;

use cuda_abi::*;
use kit::{Driver, call, expect_pass};

const LEGACY: CUstream = CUstream::NULL;
const GRANULE: usize = 2 << 20;
/// High, and a multiple of everything.
const PLACE: u64 = 0x4000_0000_0000;
const WINDOW: usize = 64 << 20;

/// Runs the case that the environment names; as a test of its own it has none.
#[test]
fn run_case() {
    match std::env::var("SIMGPU_TEST_CASE").as_deref() {
        Ok("addresses") => addresses(),
        Ok("mapping") => mapping(),
        Ok("no_access") => no_access(),
        Ok("strictness") => strictness(),
        Ok("devices") => devices(),
        Ok("limit") => limit(),
        Ok("refused") => refused(),
        Ok(other) => panic!("no case {other}"),
        Err(_) => {}
    }
}

fn properties(device: i32) -> CUmemAllocationProp {
    CUmemAllocationProp {
        r#type: CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: 0,
        location: CUmemLocation { r#type: CU_MEM_LOCATION_TYPE_DEVICE, id: device },
        win32HandleMetaData: std::ptr::null_mut(),
        compressionType: 0,
        gpuDirectRDMACapable: 0,
        usage: 0,
        reserved: [0; 4],
    }
}

fn reserve(driver: &Driver, size: usize, wish: u64) -> Result<u64, CUresult> {
    let mut address = 0;
    call!(driver, cuMemAddressReserve, PFN_cuMemAddressReserve, &mut address, size, 0, wish, 0)
        .into_result()?;
    Ok(address)
}

fn create(driver: &Driver, size: usize, device: i32) -> Result<u64, CUresult> {
    let mut handle = 0;
    call!(driver, cuMemCreate, PFN_cuMemCreate, &mut handle, size, &properties(device), 0).into_result()?;
    Ok(handle)
}

fn map(driver: &Driver, at: u64, size: usize, handle: u64) -> CUresult {
    call!(driver, cuMemMap, PFN_cuMemMap, at, size, 0, handle, 0)
}

fn unmap(driver: &Driver, at: u64, size: usize) -> CUresult {
    call!(driver, cuMemUnmap, PFN_cuMemUnmap, at, size)
}

fn release(driver: &Driver, handle: u64) -> CUresult {
    call!(driver, cuMemRelease, PFN_cuMemRelease, handle)
}

fn allow(driver: &Driver, at: u64, size: usize, device: i32, flags: u32) -> CUresult {
    let location = CUmemLocation { r#type: CU_MEM_LOCATION_TYPE_DEVICE, id: device };
    let access = CUmemAccessDesc { location, flags };
    call!(driver, cuMemSetAccess, PFN_cuMemSetAccess, at, size, &access, 1)
}

/// Granules side by side at `at`, with access for device 0; nobody keeps their handles.
fn granules(driver: &Driver, at: u64, count: usize) {
    for index in 0..count {
        let handle = create(driver, GRANULE, 0).unwrap();
        let place = at + (index * GRANULE) as u64;
        assert_eq!(map(driver, place, GRANULE, handle), CUresult::SUCCESS);
        assert_eq!(release(driver, handle), CUresult::SUCCESS);
    }
    assert_eq!(allow(driver, at, count * GRANULE, 0, 3), CUresult::SUCCESS);
}

#[test]
fn large_wishes_for_addresses_are_granted_and_small_ones_are_not() {
    expect_pass("addresses", &[]);
}

fn addresses() {
    let driver = Driver::with_context();
    let mut supported = 0;
    let attribute = CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
    let asked = call!(driver, cuDeviceGetAttribute, PFN_cuDeviceGetAttribute, &mut supported, attribute, 0);
    assert_eq!((asked, supported), (CUresult::SUCCESS, 1));
    let mut granularity = 0;
    let asked = call!(
        driver,
        cuMemGetAllocationGranularity,
        PFN_cuMemGetAllocationGranularity,
        &mut granularity,
        &properties(0),
        0
    );
    assert_eq!((asked, granularity), (CUresult::SUCCESS, GRANULE));

    assert_eq!(reserve(&driver, 1 << 43, PLACE), Ok(PLACE));
    let elsewhere = reserve(&driver, WINDOW, PLACE).unwrap();
    assert_ne!(elsewhere, PLACE, "taken already");
    assert_ne!(reserve(&driver, WINDOW, 0x1000_0000), Ok(0x1000_0000), "a small wish");
    assert_eq!(reserve(&driver, GRANULE + 4096, PLACE), Err(CUresult::INVALID_VALUE));
    let free = |at, size| call!(driver, cuMemAddressFree, PFN_cuMemAddressFree, at, size);
    assert_eq!(free(PLACE, WINDOW), CUresult::INVALID_VALUE, "a part");
    assert_eq!(free(PLACE, 1 << 43), CUresult::SUCCESS);
    assert_eq!(reserve(&driver, WINDOW, PLACE), Ok(PLACE), "free again");
}

#[test]
fn mapped_memory_is_used_across_its_pieces() {
    expect_pass("mapping", &[]);
}

fn mapping() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let before = driver.free_bytes();
    assert_eq!(reserve(&driver, WINDOW, PLACE), Ok(PLACE));
    granules(&driver, PLACE, 4);
    assert_eq!(driver.free_bytes(), before - 4 * GRANULE);
    assert_eq!(driver.read(PLACE + 8), Ok(0xcdcd_cdcd), "fresh memory holds a pattern");
    for index in 0..4u32 {
        let at = PLACE + u64::from(index) * GRANULE as u64;
        assert_eq!(driver.store(function, at, 7 + index, LEGACY), CUresult::SUCCESS);
    }
    let words = 2 * GRANULE / 4;
    let middle = PLACE + GRANULE as u64 + 4096;
    let fill = |at, count| call!(driver, cuMemsetD32_v2, PFN_cuMemsetD32_v2, at, 5, count);
    assert_eq!(fill(middle, words), CUresult::SUCCESS);
    assert_eq!(fill(middle + GRANULE as u64, words), CUresult::INVALID_VALUE, "beyond what is mapped");
    assert_eq!(driver.read(middle + 2 * GRANULE as u64 - 4), Ok(5));
    assert_eq!(driver.read(PLACE + 3 * GRANULE as u64), Ok(5), "written by the fill");
    assert_eq!(driver.read(PLACE), Ok(7));

    // What has a handle keeps its bytes while it is mapped nowhere.
    let mut handle = 0;
    let place = usize::try_from(PLACE).expect("64 bits");
    let place = std::ptr::without_provenance_mut::<c_void>(place);
    let retained =
        call!(driver, cuMemRetainAllocationHandle, PFN_cuMemRetainAllocationHandle, &mut handle, place);
    assert_eq!(retained, CUresult::SUCCESS);
    assert_eq!(unmap(&driver, PLACE, GRANULE), CUresult::SUCCESS);
    let there = PLACE + 16 * GRANULE as u64;
    assert_eq!(map(&driver, there, GRANULE, handle), CUresult::SUCCESS);
    assert_eq!(driver.read(there), Err(CUresult::INVALID_VALUE), "nobody has access yet");
    assert_eq!(allow(&driver, there, GRANULE, 0, 3), CUresult::SUCCESS);
    assert_eq!(driver.read(there), Ok(7));
    assert_eq!(release(&driver, handle), CUresult::SUCCESS);
    assert_eq!(unmap(&driver, there, GRANULE), CUresult::SUCCESS);
    assert_eq!(unmap(&driver, PLACE + GRANULE as u64, 3 * GRANULE), CUresult::SUCCESS, "several at once");
    assert_eq!(driver.free_bytes(), before);
    let free = call!(driver, cuMemAddressFree, PFN_cuMemAddressFree, PLACE, WINDOW);
    assert_eq!(free, CUresult::SUCCESS);
}

#[test]
fn a_kernel_without_access_faults() {
    expect_pass("no_access", &[]);
}

fn no_access() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    assert_eq!(reserve(&driver, WINDOW, PLACE), Ok(PLACE));
    let handle = create(&driver, GRANULE, 0).unwrap();
    assert_eq!(map(&driver, PLACE, GRANULE, handle), CUresult::SUCCESS);
    assert_eq!(driver.read(PLACE), Err(CUresult::INVALID_VALUE));
    assert_eq!(driver.store(function, PLACE, 1, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::ILLEGAL_ADDRESS);
}

#[test]
fn parts_and_overlaps_are_refused() {
    expect_pass("strictness", &[]);
}

fn strictness() {
    let driver = Driver::with_context();
    assert_eq!(reserve(&driver, WINDOW, PLACE), Ok(PLACE));
    assert_eq!(create(&driver, 4096, 0), Err(CUresult::INVALID_VALUE));
    let large = create(&driver, 2 * GRANULE, 0).unwrap();
    assert_eq!(map(&driver, PLACE, GRANULE, large), CUresult::INVALID_VALUE, "a part of the memory");
    assert_eq!(map(&driver, PLACE + 4096, 2 * GRANULE, large), CUresult::INVALID_VALUE, "not aligned");
    let outside = PLACE + WINDOW as u64;
    assert_eq!(map(&driver, outside, 2 * GRANULE, large), CUresult::INVALID_VALUE, "not reserved");
    let offset = call!(driver, cuMemMap, PFN_cuMemMap, PLACE, 2 * GRANULE, GRANULE, large, 0);
    assert_eq!(offset, CUresult::INVALID_VALUE);
    assert_eq!(map(&driver, PLACE, 2 * GRANULE, large), CUresult::SUCCESS);
    let small = create(&driver, GRANULE, 0).unwrap();
    assert_eq!(map(&driver, PLACE + GRANULE as u64, GRANULE, small), CUresult::INVALID_VALUE, "in use");
    assert_eq!(unmap(&driver, PLACE, GRANULE), CUresult::INVALID_VALUE, "a part of a mapping");
    assert_eq!(allow(&driver, PLACE, GRANULE, 0, 3), CUresult::INVALID_VALUE, "a part of a mapping");
    assert_eq!(allow(&driver, PLACE, 2 * GRANULE, 0, 2), CUresult::INVALID_VALUE, "no such access");
    let free = || call!(driver, cuMemAddressFree, PFN_cuMemAddressFree, PLACE, WINDOW);
    assert_eq!(free(), CUresult::INVALID_VALUE, "something is mapped");
    let freed = call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, PLACE);
    assert_eq!(freed, CUresult::INVALID_VALUE, "it was not allocated");
    assert_eq!(unmap(&driver, PLACE, 2 * GRANULE), CUresult::SUCCESS);
    assert_eq!(unmap(&driver, PLACE, 2 * GRANULE), CUresult::INVALID_VALUE, "twice");
    assert_eq!(release(&driver, large), CUresult::SUCCESS);
    assert_eq!(release(&driver, large), CUresult::INVALID_VALUE, "twice");
    assert_eq!(free(), CUresult::SUCCESS);
}

#[test]
fn each_device_has_access_of_its_own() {
    expect_pass("devices", &[("FARPOOL_SIMGPU_DEVICES", "2")]);
}

fn devices() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    assert_eq!(reserve(&driver, WINDOW, PLACE), Ok(PLACE));
    let handle = create(&driver, GRANULE, 1).unwrap();
    let mut told = properties(0);
    let asked = call!(
        driver,
        cuMemGetAllocationPropertiesFromHandle,
        PFN_cuMemGetAllocationPropertiesFromHandle,
        &mut told,
        handle
    );
    assert_eq!((asked, told.location.id), (CUresult::SUCCESS, 1));
    assert_eq!(map(&driver, PLACE, GRANULE, handle), CUresult::SUCCESS);
    for device in [1, 0] {
        assert_eq!(allow(&driver, PLACE, GRANULE, device, 3), CUresult::SUCCESS);
    }
    assert_eq!(driver.store(function, PLACE, 9, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::SUCCESS);
    assert_eq!(driver.read(PLACE), Ok(9));
    assert_eq!(allow(&driver, PLACE, GRANULE, 0, 0), CUresult::SUCCESS);
    let access = |device| {
        let location = CUmemLocation { r#type: CU_MEM_LOCATION_TYPE_DEVICE, id: device };
        let mut flags = 9;
        let asked = call!(driver, cuMemGetAccess, PFN_cuMemGetAccess, &mut flags, &location, PLACE + 4);
        assert_eq!(asked, CUresult::SUCCESS);
        flags
    };
    assert_eq!((access(0), access(1)), (0, 3));
    assert_eq!(driver.store(function, PLACE, 10, LEGACY), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::ILLEGAL_ADDRESS);
}

#[test]
fn physical_memory_counts_and_outlives_contexts() {
    expect_pass("limit", &[]);
}

fn limit() {
    let driver = Driver::with_context();
    let free = driver.free_bytes();
    assert_eq!(create(&driver, 2 << 30, 0), Err(CUresult::OUT_OF_MEMORY), "more than the device has");
    assert_eq!(reserve(&driver, 1 << 31, PLACE), Ok(PLACE));
    let size = 512 << 20;
    let handle = create(&driver, size, 0).unwrap();
    assert_eq!(driver.free_bytes(), free - size);
    assert_eq!(map(&driver, PLACE, size, handle), CUresult::SUCCESS);
    assert_eq!(release(&driver, handle), CUresult::SUCCESS);
    assert_eq!(driver.free_bytes(), free - size, "the mapping holds it");
    let mut context = CUcontext::NULL;
    assert_eq!(call!(driver, cuCtxGetCurrent, PFN_cuCtxGetCurrent, &mut context), CUresult::SUCCESS);
    assert_eq!(call!(driver, cuCtxDestroy_v2, PFN_cuCtxDestroy_v2, context), CUresult::SUCCESS);
    driver.create_context();
    assert_eq!(driver.free_bytes(), free - size, "it belongs to no context");
    assert_eq!(unmap(&driver, PLACE, size), CUresult::SUCCESS);
    assert_eq!(driver.free_bytes(), free);
}

#[test]
fn it_can_be_switched_off() {
    expect_pass("refused", &[("FARPOOL_SIMGPU_VMM", "0")]);
}

fn refused() {
    let driver = Driver::with_context();
    let mut supported = 1;
    let attribute = CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
    let asked = call!(driver, cuDeviceGetAttribute, PFN_cuDeviceGetAttribute, &mut supported, attribute, 0);
    assert_eq!((asked, supported), (CUresult::SUCCESS, 0));
    assert_eq!(reserve(&driver, WINDOW, PLACE), Err(CUresult::NOT_SUPPORTED));
    assert_eq!(create(&driver, GRANULE, 0), Err(CUresult::NOT_SUPPORTED));
}
