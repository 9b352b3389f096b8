//! What is not executed is refused by name, NOT_SUPPORTED, at once and not sticky: other kernels and calls work.

mod kit;

use std::ffi::{CString, c_void};
use std::process::Stdio;
use std::ptr::null_mut;

use cuda_abi::*;
use kit::{Driver, call, state_path};

/// A kernel that runs, and one of each kind that does not. For dynamic parallelism it is what `nvcc -rdc=true` writes.
const MODULE: &str = "
.version 8.0
.target sm_80
.address_size 64
.global .texref picture;
.extern .func (.param .b64 buffer) __cudaCDP2GetParameterBufferV2 (.param .b64 function,
  .param .align 4 .b8 grid[12], .param .align 4 .b8 block[12], .param .b32 shared);
.extern .func (.param .b32 result) elsewhere (.param .b32 value);
.extern .global .u32 beyond;
.visible .entry store(.param .u64 at, .param .u32 value)
{
  .reg .b64 %rd<3>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [at];
  ld.param.u32 %r1, [value];
  st.global.u32 [%rd1], %r1;
  ret;
}
.visible .entry texture() {
  .reg .f32 %f<5>; .reg .b32 %r<3>;
  tex.1d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [picture, {%r1}];
  ret;
}
.visible .entry surface(.param .u64 at) {
  .reg .b64 %rd<2>; .reg .b32 %r<3>;
  ld.param.u64 %rd1, [at];
  sust.b.1d.b32.trap [%rd1, {%r1}], {%r2};
  ret;
}
.visible .entry parent() {
  .reg .b64 %rd<2>;
  .param .b64 function; .param .align 4 .b8 grid[12]; .param .align 4 .b8 block[12]; .param .b32 shared; .param .b64 buffer;
  call.uni (buffer), __cudaCDP2GetParameterBufferV2, (function, grid, block, shared);
  ret;
}
.visible .entry linked() {
  .param .b32 value; .param .b32 result;
  call.uni (result), elsewhere, (value);
  ret;
}
.visible .entry variable() {
  .reg .b32 %r<2>;
  ld.global.u32 %r1, [beyond];
  ret;
}
.visible .entry cluster() .reqnctapercluster 2, 1, 1 {
  ret;
}
.visible .entry meets() {
  barrier.cluster.arrive.aligned;
  ret;
}
";

/// Kernels that are refused, and the name that the log gives the reason.
const REFUSED: &[(&str, &str)] = &[
    ("texture", "tex.1d.v4.f32.s32"),
    ("surface", "sust.b.1d.b32.trap"),
    ("parent", "call __cudaCDP2GetParameterBufferV2"),
    ("linked", "call elsewhere"),
    ("variable", "beyond"),
    ("cluster", ".reqnctapercluster"),
    ("meets", "barrier.cluster.arrive.aligned"),
];

/// Runs a case that the environment names; as a test of its own it has none.
#[test]
fn run_case() {
    match std::env::var("SIMGPU_TEST_CASE").as_deref() {
        Ok("kernels") => kernels(),
        Ok("calls") => calls(),
        Ok("cluster_launch") => cluster_launch(),
        Ok("parts_to_link") => parts_to_link(),
        Ok(other) => panic!("no case {other}"),
        Err(_) => {}
    }
}

/// What a case says in the log.
fn log_of(case: &str) -> String {
    let binary = std::env::current_exe().expect("the test knows its own path");
    let output = std::process::Command::new(binary)
        .args(["--exact", "run_case", "--nocapture"])
        .env("SIMGPU_TEST_CASE", case)
        .env("FARPOOL_SIMGPU_STATE", state_path(case))
        .env("FARPOOL_SIMGPU_LOG", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the test starts itself");
    let _ = std::fs::remove_file(state_path(case));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {text}");
    text.into_owned()
}

fn expect_work(driver: &Driver, function: CUfunction) {
    let at = driver.allocate(64).expect("memory");
    assert_eq!(driver.store(function, at, 42, CUstream::NULL), CUresult::SUCCESS);
    assert_eq!(driver.read(at), Ok(42));
}

#[test]
fn kernels_are_refused_by_the_name_of_what_they_use() {
    let log = log_of("kernels");
    for (kernel, reason) in REFUSED {
        let told = |line: &&str| line.contains(&format!(" {kernel}: ")) && line.contains(reason);
        assert_eq!(log.lines().filter(told).count(), 1, "{kernel}: {reason} in\n{log}");
    }
}

fn kernels() {
    let driver = Driver::with_context();
    let module = driver.load_module(MODULE).expect("the module loads");
    for (kernel, _) in REFUSED {
        assert_eq!(driver.function(module, kernel), Err(CUresult::NOT_SUPPORTED), "{kernel}");
    }
    expect_work(&driver, driver.function(module, "store").expect("it uses none of that"));
}

#[test]
fn calls_are_refused_by_name() {
    let log = log_of("calls");
    for call in [
        "cuLinkCreate_v2",
        "cuLinkAddData_v2",
        "cuTexObjectCreate",
        "cuSurfObjectCreate",
        "cuArray3DCreate_v2",
    ] {
        assert!(log.contains(&format!("{call} is not supported")), "{call} in\n{log}");
    }
}

fn calls() {
    let driver = Driver::with_context();
    let none = null_mut();
    assert_eq!(
        call!(driver, cuLinkCreate_v2, PFN_cuLinkCreate_v2, 0, none, null_mut(), null_mut()),
        CUresult::NOT_SUPPORTED
    );
    let state = CUlinkState::NULL;
    let name = c"part".as_ptr();
    assert_eq!(
        call!(
            driver,
            cuLinkAddData_v2,
            PFN_cuLinkAddData_v2,
            state,
            1,
            null_mut(),
            0,
            name,
            0,
            none,
            null_mut()
        ),
        CUresult::NOT_SUPPORTED
    );
    let (read, write) = (std::ptr::null(), null_mut());
    assert_eq!(
        call!(
            driver,
            cuTexObjectCreate,
            PFN_cuTexObjectCreate,
            write,
            read,
            std::ptr::null(),
            std::ptr::null()
        ),
        CUresult::NOT_SUPPORTED
    );
    assert_eq!(
        call!(driver, cuSurfObjectCreate, PFN_cuSurfObjectCreate, null_mut(), std::ptr::null()),
        CUresult::NOT_SUPPORTED
    );
    assert_eq!(
        call!(driver, cuArray3DCreate_v2, PFN_cuArray3DCreate_v2, null_mut(), std::ptr::null()),
        CUresult::NOT_SUPPORTED
    );
    expect_work(&driver, driver.store_function());
}

#[test]
fn launches_in_clusters_are_refused() {
    let log = log_of("cluster_launch");
    assert!(log.contains("cuLaunchKernelEx: clusters of 2 x 1 x 1 blocks are not supported"), "{log}");
}

fn cluster_launch() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let (mut at, mut value) = (driver.allocate(64).expect("memory"), 7_u32);
    let mut parameters: [*mut c_void; 2] = [(&raw mut at).cast(), (&raw mut value).cast()];
    for (blocks, expected) in [(2_u64, CUresult::NOT_SUPPORTED), (1, CUresult::SUCCESS)] {
        // Its three dimensions are numbers of 32 bits.
        let bytes = [blocks | 1 << 32, 1, 0, 0, 0, 0, 0, 0];
        let mut attribute = CUlaunchAttribute { id: 4, pad: [0; 4], value: CUlaunchAttributeValue { bytes } };
        let config = CUlaunchConfig {
            gridDimX: 2,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 1,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: CUstream::NULL,
            attrs: &mut attribute,
            numAttrs: 1,
        };
        let launched = call!(
            driver,
            cuLaunchKernelEx,
            PFN_cuLaunchKernelEx,
            &config,
            function,
            parameters.as_mut_ptr(),
            null_mut()
        );
        assert_eq!(launched, expected);
    }
    assert_eq!(driver.read(at), Ok(7));
}

#[test]
fn an_image_of_parts_to_link_is_refused_with_the_reason() {
    let log = log_of("parts_to_link");
    assert!(log.contains("linked when it is loaded") && log.contains("-rdc=true"), "{log}");
}

/// What `nvcc -rdc=true` leaves where it has no machine code: a fatbin without entries, and a list of those to link.
fn parts_to_link() {
    let driver = Driver::with_context();
    let empty: [u32; 4] = [0xba55_ed50, 0x0010_0001, 0, 0];
    let parts = [empty.as_ptr(), std::ptr::null()];
    let wrapper: [u64; 3] = [
        2 << 32 | 0x4662_43b1,
        empty.as_ptr().expose_provenance() as u64,
        parts.as_ptr().expose_provenance() as u64,
    ];
    let mut module = CUmodule::NULL;
    let loaded =
        call!(driver, cuModuleLoadData, PFN_cuModuleLoadData, &mut module, wrapper.as_ptr().cast::<c_void>());
    assert_eq!(loaded, CUresult::NOT_SUPPORTED);

    let (mut log, mut options) = ([0_u8; 512], [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]);
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
    let loaded = call!(
        driver,
        cuModuleLoadDataEx,
        PFN_cuModuleLoadDataEx,
        &mut module,
        wrapper.as_ptr().cast::<c_void>(),
        2,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    );
    assert_eq!(loaded, CUresult::NOT_SUPPORTED);
    let told = CString::new(&log[..values[1].addr()]).expect("text without NUL");
    assert!(told.to_string_lossy().contains("-rdc=true"), "{told:?}");
    expect_work(&driver, driver.store_function());
}
