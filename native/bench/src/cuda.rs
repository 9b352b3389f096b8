//! The calls that are measured, from whatever `libcuda.so.1` the loader finds.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use anyhow::{Context, bail};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// An opaque handle of CUDA. A number as wide as the pointer it is in `cuda.h`, so that threads can share it.
pub type Handle = usize;
/// A `CUdeviceptr`.
pub type DevicePointer = u64;
type Status = c_int;

const SUCCESS: Status = 0;
const NOT_READY: Status = 600;
const STREAM_NON_BLOCKING: c_uint = 1;

macro_rules! functions {
    ($($field:ident: $symbol:literal ($($argument:ty),*);)*) => {
        #[derive(Clone, Copy)]
        struct Functions { $($field: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl Functions {
            fn load(library: &Library) -> anyhow::Result<Functions> {
                // SAFETY: the types are those of cuda.h for these symbols, and the library is never unloaded.
                unsafe {
                    Ok(Functions {
                        $($field: *library.get($symbol.as_bytes()).with_context(|| format!("find {}", $symbol))?,)*
                    })
                }
            }
        }
    };
}

functions! {
    init: "cuInit" (c_uint);
    device_get_name: "cuDeviceGetName" (*mut c_char, c_int, c_int);
    primary_retain: "cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    set_current: "cuCtxSetCurrent" (Handle);
    context_synchronize: "cuCtxSynchronize" ();
    stream_create: "cuStreamCreate" (*mut Handle, c_uint);
    stream_synchronize: "cuStreamSynchronize" (Handle);
    event_create: "cuEventCreate" (*mut Handle, c_uint);
    event_record: "cuEventRecord" (Handle, Handle);
    event_query: "cuEventQuery" (Handle);
    allocate: "cuMemAlloc_v2" (*mut DevicePointer, usize);
    free: "cuMemFree_v2" (DevicePointer);
    to_device: "cuMemcpyHtoD_v2" (DevicePointer, *const c_void, usize);
    to_host: "cuMemcpyDtoH_v2" (*mut c_void, DevicePointer, usize);
    load_module: "cuModuleLoadData" (*mut Handle, *const c_void);
    get_function: "cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    launch: "cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
}

/// A loaded libcuda.
#[derive(Clone, Copy)]
pub struct Cuda {
    functions: Functions,
}

impl Cuda {
    pub fn load() -> anyhow::Result<Cuda> {
        // SAFETY: loading a libcuda runs its constructors, which is what this program is for.
        let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL) }
            .context("load libcuda.so.1; run it by `farpool run`, or with LD_LIBRARY_PATH=dist/lib/simgpu")?;
        let functions = Functions::load(&library)?;
        std::mem::forget(library);
        Ok(Cuda { functions })
    }

    pub fn init(&self) -> anyhow::Result<()> {
        // SAFETY: takes a number only.
        check("cuInit", unsafe { (self.functions.init)(0) })
    }

    pub fn device_name(&self) -> anyhow::Result<String> {
        const BYTES: c_int = 256;
        let mut name = [0; 256];
        // SAFETY: the call writes at most `BYTES` bytes with a terminator.
        check("cuDeviceGetName", unsafe { (self.functions.device_get_name)(name.as_mut_ptr(), BYTES, 0) })?;
        // SAFETY: the call succeeded, so the name is terminated.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// The primary context of the first device, current on this thread.
    pub fn primary_context(&self) -> anyhow::Result<Handle> {
        let mut context = 0;
        // SAFETY: the result goes to a local variable.
        check("cuDevicePrimaryCtxRetain", unsafe { (self.functions.primary_retain)(&raw mut context, 0) })?;
        self.set_current(context)?;
        Ok(context)
    }

    pub fn set_current(&self, context: Handle) -> anyhow::Result<()> {
        // SAFETY: `context` came from this library.
        check("cuCtxSetCurrent", unsafe { (self.functions.set_current)(context) })
    }

    pub fn context_synchronize(&self) -> anyhow::Result<()> {
        // SAFETY: takes nothing.
        check("cuCtxSynchronize", unsafe { (self.functions.context_synchronize)() })
    }

    pub fn stream(&self) -> anyhow::Result<Handle> {
        let mut stream = 0;
        // SAFETY: the result goes to a local variable.
        check("cuStreamCreate", unsafe {
            (self.functions.stream_create)(&raw mut stream, STREAM_NON_BLOCKING)
        })?;
        Ok(stream)
    }

    pub fn stream_synchronize(&self, stream: Handle) -> anyhow::Result<()> {
        // SAFETY: `stream` came from this library.
        check("cuStreamSynchronize", unsafe { (self.functions.stream_synchronize)(stream) })
    }

    pub fn event(&self) -> anyhow::Result<Handle> {
        let mut event = 0;
        // SAFETY: the result goes to a local variable.
        check("cuEventCreate", unsafe { (self.functions.event_create)(&raw mut event, 0) })?;
        Ok(event)
    }

    pub fn record(&self, event: Handle, stream: Handle) -> anyhow::Result<()> {
        // SAFETY: both handles came from this library.
        check("cuEventRecord", unsafe { (self.functions.event_record)(event, stream) })
    }

    pub fn is_complete(&self, event: Handle) -> anyhow::Result<bool> {
        // SAFETY: `event` came from this library.
        match unsafe { (self.functions.event_query)(event) } {
            NOT_READY => Ok(false),
            status => check("cuEventQuery", status).map(|()| true),
        }
    }

    pub fn allocate(&self, bytes: usize) -> anyhow::Result<DevicePointer> {
        let mut pointer = 0;
        // SAFETY: the result goes to a local variable.
        check("cuMemAlloc", unsafe { (self.functions.allocate)(&raw mut pointer, bytes) })?;
        Ok(pointer)
    }

    pub fn free(&self, pointer: DevicePointer) -> anyhow::Result<()> {
        // SAFETY: takes a number only; the library checks it.
        check("cuMemFree", unsafe { (self.functions.free)(pointer) })
    }

    pub fn copy_to_device(&self, target: DevicePointer, source: &[u8]) -> anyhow::Result<()> {
        // SAFETY: the source is readable for its length, and the call returns after it was read.
        check("cuMemcpyHtoD", unsafe {
            (self.functions.to_device)(target, source.as_ptr().cast(), source.len())
        })
    }

    pub fn copy_to_host(&self, target: &mut [u8], source: DevicePointer) -> anyhow::Result<()> {
        // SAFETY: the target is writable for its length, and the call returns after it was written.
        check("cuMemcpyDtoH", unsafe {
            (self.functions.to_host)(target.as_mut_ptr().cast(), source, target.len())
        })
    }

    /// The kernel `name` of a PTX text.
    pub fn kernel(&self, ptx: &CStr, name: &CStr) -> anyhow::Result<Handle> {
        let (mut module, mut function) = (0, 0);
        // SAFETY: the text is terminated, as PTX must be, and the result goes to a local variable.
        check("cuModuleLoadData", unsafe {
            (self.functions.load_module)(&raw mut module, ptx.as_ptr().cast())
        })?;
        // SAFETY: the module is loaded, the name is terminated, and the result goes to a local variable.
        check("cuModuleGetFunction", unsafe {
            (self.functions.get_function)(&raw mut function, module, name.as_ptr())
        })?;
        Ok(function)
    }

    /// Launches a kernel with a pointer and a number as parameters.
    pub fn launch(
        &self,
        function: Handle,
        stream: Handle,
        parameters: (DevicePointer, u32),
    ) -> anyhow::Result<()> {
        let (mut pointer, mut count) = parameters;
        let mut addresses: [*mut c_void; 2] = [(&raw mut pointer).cast(), (&raw mut count).cast()];
        // SAFETY: the kernel has two parameters of these sizes; they are read before the call returns.
        check("cuLaunchKernel", unsafe {
            (self.functions.launch)(
                function,
                32,
                1,
                1,
                128,
                1,
                1,
                0,
                stream,
                addresses.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
    }
}

fn check(call: &str, status: Status) -> anyhow::Result<()> {
    if status != SUCCESS {
        bail!("{call} answered {status}");
    }
    Ok(())
}
