//! The product on PoCL, through whatever OpenCL loader the machine has.

use libloading::{Library, Symbol};
use std::ffi::{CStr, CString, c_char, c_void};

type Handle = *mut c_void;

/// A built program with its buffers.
pub struct Product {
    library: Library,
    queue: Handle,
    kernel: Handle,
    size: usize,
}

impl Product {
    /// Builds the program for a PoCL device with one thread.
    ///
    /// # Errors
    /// When there is no PoCL, in words.
    pub fn new(size: u32, source: &str) -> Result<Self, String> {
        // SAFETY: no other thread runs yet. PoCL reads it when it starts.
        unsafe { std::env::set_var("POCL_MAX_PTHREAD_COUNT", "1") };
        // SAFETY: loading OpenCL's loader runs its initialisers, which it is made for.
        let library = unsafe { Library::new("libOpenCL.so.1") }.map_err(|error| error.to_string())?;
        // SAFETY: all calls pass what OpenCL's headers declare.
        unsafe { Self::build(library, size, source) }
    }

    /// # Safety
    /// `library` is OpenCL.
    unsafe fn build(library: Library, size: u32, source: &str) -> Result<Self, String> {
        let missing = |error: libloading::Error| error.to_string();
        // SAFETY: the names and types are those of OpenCL 1.2, of which every loader has all.
        unsafe {
            let platforms: Symbol<'_, unsafe extern "C" fn(u32, *mut Handle, *mut u32) -> i32> =
                library.get(b"clGetPlatformIDs").map_err(missing)?;
            let platform_info: Symbol<
                '_,
                unsafe extern "C" fn(Handle, u32, usize, *mut c_char, *mut usize) -> i32,
            > = library.get(b"clGetPlatformInfo").map_err(missing)?;
            let devices: Symbol<'_, unsafe extern "C" fn(Handle, u64, u32, *mut Handle, *mut u32) -> i32> =
                library.get(b"clGetDeviceIDs").map_err(missing)?;
            let create_context: Symbol<
                '_,
                unsafe extern "C" fn(*const isize, u32, *const Handle, Handle, Handle, *mut i32) -> Handle,
            > = library.get(b"clCreateContext").map_err(missing)?;
            let create_queue: Symbol<'_, unsafe extern "C" fn(Handle, Handle, u64, *mut i32) -> Handle> =
                library.get(b"clCreateCommandQueue").map_err(missing)?;
            let create_program: Symbol<
                '_,
                unsafe extern "C" fn(Handle, u32, *const *const c_char, *const usize, *mut i32) -> Handle,
            > = library.get(b"clCreateProgramWithSource").map_err(missing)?;
            let build: Symbol<
                '_,
                unsafe extern "C" fn(Handle, u32, *const Handle, *const c_char, Handle, Handle) -> i32,
            > = library.get(b"clBuildProgram").map_err(missing)?;
            let create_kernel: Symbol<'_, unsafe extern "C" fn(Handle, *const c_char, *mut i32) -> Handle> =
                library.get(b"clCreateKernel").map_err(missing)?;
            let create_buffer: Symbol<
                '_,
                unsafe extern "C" fn(Handle, u64, usize, Handle, *mut i32) -> Handle,
            > = library.get(b"clCreateBuffer").map_err(missing)?;
            let set_argument: Symbol<'_, unsafe extern "C" fn(Handle, u32, usize, *const c_void) -> i32> =
                library.get(b"clSetKernelArg").map_err(missing)?;

            let mut found = [std::ptr::null_mut(); 8];
            let mut count = 0;
            platforms(8, found.as_mut_ptr(), &raw mut count);
            let is_pocl = |platform: &&Handle| {
                let mut name = [0; 128];
                platform_info(**platform, 0x0902, name.len() - 1, name.as_mut_ptr(), std::ptr::null_mut());
                CStr::from_ptr(name.as_ptr()).to_bytes().starts_with(b"Portable Computing Language")
            };
            let platform =
                *found[..(count as usize).min(8)].iter().find(is_pocl).ok_or("no platform of that name")?;
            let mut device = std::ptr::null_mut();
            if devices(platform, 1 << 1, 1, &raw mut device, std::ptr::null_mut()) != 0 {
                return Err("no CPU device".to_owned());
            }
            let mut error = 0;
            let context = create_context(
                std::ptr::null(),
                1,
                &raw const device,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &raw mut error,
            );
            let queue = create_queue(context, device, 0, &raw mut error);
            let text = CString::new(source).map_err(|error| error.to_string())?;
            let pointer = text.as_ptr();
            let program = create_program(context, 1, &raw const pointer, std::ptr::null(), &raw mut error);
            if build(
                program,
                0,
                std::ptr::null(),
                std::ptr::null(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            ) != 0
            {
                return Err("the program is not built".to_owned());
            }
            let kernel = create_kernel(program, c"product".as_ptr(), &raw mut error);
            for index in 0..3 {
                let buffer = create_buffer(
                    context,
                    1,
                    (size * size * 4) as usize,
                    std::ptr::null_mut(),
                    &raw mut error,
                );
                set_argument(kernel, index, size_of::<Handle>(), (&raw const buffer).cast());
            }
            set_argument(kernel, 3, size_of::<u32>(), (&raw const size).cast());
            if error != 0 || kernel.is_null() {
                return Err(format!("OpenCL error {error}"));
            }
            let mut product = Self { library, queue, kernel, size: size as usize };
            product.run();
            Ok(product)
        }
    }

    /// Seconds that one product takes.
    pub fn run(&mut self) -> f64 {
        type Enqueue = unsafe extern "C" fn(
            Handle,
            Handle,
            u32,
            *const usize,
            *const usize,
            *const usize,
            u32,
            Handle,
            Handle,
        ) -> i32;
        let (global, local) = ([self.size, self.size], [16usize, 16]);
        // SAFETY: the names and types are OpenCL's, and the handles live.
        unsafe {
            let enqueue: Symbol<'_, Enqueue> =
                self.library.get(b"clEnqueueNDRangeKernel").expect("OpenCL 1.2");
            let finish: Symbol<'_, unsafe extern "C" fn(Handle) -> i32> =
                self.library.get(b"clFinish").expect("OpenCL 1.2");
            crate::seconds(|| {
                enqueue(
                    self.queue,
                    self.kernel,
                    2,
                    std::ptr::null(),
                    global.as_ptr(),
                    local.as_ptr(),
                    0,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                );
                finish(self.queue);
            })
        }
    }
}
