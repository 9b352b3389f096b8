//! Loads the built library as a program would, and runs each case in a process of its own: a poisoned context, a
//! variable of the environment or a `kill -9` of one case is then no affair of another.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cuda_abi::*;
use libloading::{Library, Symbol};

/// Stores one 32-bit value at an address.
pub const STORE: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry store(.param .u64 at, .param .u32 value)
{
  .reg .b64 %rd<3>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [at];
  ld.param.u32 %r1, [value];
  st.global.u32 [%rd1], %r1;
  ret;
}
";

/// The library beside the test binary.
fn path() -> PathBuf {
    let binary = std::env::current_exe().expect("the test knows its own path");
    let folder = binary.parent().and_then(|deps| deps.parent()).expect("target/profile/deps");
    let found = [folder.join("deps/libsimgpu.so"), folder.join("libsimgpu.so")]
        .into_iter()
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no libsimgpu.so was built in {}", folder.display()))
}

/// The library, loaded.
pub struct Driver(Library);

impl Driver {
    pub fn load() -> Self {
        // SAFETY: the library's initialisers do nothing.
        Self(unsafe { Library::new(path()) }.expect("the library loads"))
    }

    /// Loaded and initialised, with a context on device 0.
    pub fn with_context() -> Self {
        let driver = Self::load();
        assert_eq!(call!(driver, cuInit, PFN_cuInit, 0), CUresult::SUCCESS);
        driver.create_context();
        driver
    }

    pub fn create_context(&self) -> CUcontext {
        let mut context = CUcontext::NULL;
        let none = std::ptr::null_mut();
        assert_eq!(
            call!(self, cuCtxCreate_v4, PFN_cuCtxCreate_v4, &mut context, none, 0, 0),
            CUresult::SUCCESS
        );
        context
    }

    pub fn symbol<T>(&self, name: &str) -> Symbol<'_, T> {
        let name = CString::new(name).expect("names have no NUL");
        // SAFETY: the type is the generated signature of that name.
        unsafe { self.0.get(name.as_bytes_with_nul()) }.expect("the symbol is exported")
    }

    pub fn allocate(&self, bytes: usize) -> Result<u64, CUresult> {
        let mut address = 0;
        call!(self, cuMemAlloc_v2, PFN_cuMemAlloc_v2, &mut address, bytes).into_result()?;
        Ok(address)
    }

    pub fn free_bytes(&self) -> usize {
        let (mut free, mut total) = (0, 0);
        assert_eq!(
            call!(self, cuMemGetInfo_v2, PFN_cuMemGetInfo_v2, &mut free, &mut total),
            CUresult::SUCCESS
        );
        free
    }

    pub fn load_module(&self, text: &str) -> Result<CUmodule, CUresult> {
        let text = CString::new(text).expect("PTX has no NUL");
        let mut module = CUmodule::NULL;
        call!(self, cuModuleLoadData, PFN_cuModuleLoadData, &mut module, text.as_ptr().cast())
            .into_result()?;
        Ok(module)
    }

    pub fn function(&self, module: CUmodule, name: &str) -> Result<CUfunction, CUresult> {
        let name = CString::new(name).expect("names have no NUL");
        let mut function = CUfunction::NULL;
        call!(self, cuModuleGetFunction, PFN_cuModuleGetFunction, &mut function, module, name.as_ptr())
            .into_result()?;
        Ok(function)
    }

    pub fn store_function(&self) -> CUfunction {
        let module = self.load_module(STORE).expect("the module loads");
        self.function(module, "store").expect("it has the kernel")
    }

    /// Launches `store` with one thread.
    pub fn store(&self, function: CUfunction, at: u64, value: u32, stream: CUstream) -> CUresult {
        self.launch(function, [1, 1, 1], [1, 1, 1], at, value, stream)
    }

    pub fn launch(
        &self,
        function: CUfunction,
        grid: [u32; 3],
        block: [u32; 3],
        mut at: u64,
        mut value: u32,
        stream: CUstream,
    ) -> CUresult {
        let mut parameters: [*mut c_void; 2] = [(&raw mut at).cast(), (&raw mut value).cast()];
        let none = std::ptr::null_mut();
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        call!(
            self,
            cuLaunchKernel,
            PFN_cuLaunchKernel,
            function,
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            0,
            stream,
            parameters.as_mut_ptr(),
            none
        )
    }

    pub fn read(&self, at: u64) -> Result<u32, CUresult> {
        let mut value = 0_u32;
        call!(self, cuMemcpyDtoH_v2, PFN_cuMemcpyDtoH_v2, (&raw mut value).cast(), at, 4).into_result()?;
        Ok(value)
    }

    pub fn synchronize(&self) -> CUresult {
        call!(self, cuCtxSynchronize, PFN_cuCtxSynchronize)
    }

    pub fn create_stream(&self, flags: u32) -> CUstream {
        let mut stream = CUstream::NULL;
        assert_eq!(call!(self, cuStreamCreate, PFN_cuStreamCreate, &mut stream, flags), CUresult::SUCCESS);
        stream
    }
}

/// `call!(driver, symbol, type, arguments…)`
macro_rules! call {
    ($driver:expr, $name:ident, $type:ty $(, $argument:expr)* $(,)?) => {{
        let function = $driver.symbol::<$type>(stringify!($name));
        // SAFETY: the tests pass what the call's contract asks for, or what it must refuse.
        unsafe { function($($argument),*) }
    }};
}
pub(crate) use call;

/// Starts a case of this test binary in a process of its own.
pub fn start(case: &str, settings: &[(&str, &str)]) -> Child {
    let binary = std::env::current_exe().expect("the test knows its own path");
    Command::new(binary)
        .args(["--exact", "run_case", "--nocapture"])
        .env("SIMGPU_TEST_CASE", case)
        .env("FARPOOL_SIMGPU_STATE", state_path(case))
        .env("FARPOOL_SIMGPU_MEMORY", "1GiB")
        .envs(settings.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test starts itself")
}

/// A file for the accounts of one case.
pub fn state_path(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{case}-{}", std::process::id()))
}

/// Runs a case and expects it to pass.
pub fn expect_pass(case: &str, settings: &[(&str, &str)]) {
    let output = start(case, settings).wait_with_output().expect("the case ends");
    let _ = std::fs::remove_file(state_path(case));
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stdout));
}
