//! Measures an empty kernel that is launched and waited for, executed for real: `cargo run --release -p simgpu --example
//! empty_launch`. Other programs on the machine cost much here: `chrt -f 10` in front keeps them away.

use std::error::Error;
use std::ptr::null_mut;
use std::time::Instant;

use cuda_abi::*;
use libloading::Library;

const EMPTY: &std::ffi::CStr =
    c".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry empty() { ret; }\n";
/// Pairs that are measured one by one.
const PAIRS: usize = 20_000;

/// `call!(library, symbol, type, arguments…)`
macro_rules! call {
    ($library:expr, $name:ident, $type:ty $(, $argument:expr)* $(,)?) => {{
        // SAFETY: the type is the generated signature of that name.
        let function = unsafe { $library.get::<$type>(stringify!($name).as_bytes()) }?;
        // SAFETY: places and handles are those that the call asks for.
        unsafe { function($($argument),*) }.into_result().map_err(|code| format!("{code:?}"))?
    }};
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let binary = std::env::current_exe()?;
    let folder =
        binary.parent().and_then(|examples| examples.parent()).ok_or("no folder above the program's")?;
    // SAFETY: the library's initialisers do nothing.
    let library = unsafe { Library::new(folder.join("libsimgpu.so")) }?;
    let (mut context, mut stream) = (CUcontext::NULL, CUstream::NULL);
    let (mut module, mut function) = (CUmodule::NULL, CUfunction::NULL);
    call!(library, cuInit, PFN_cuInit, 0);
    call!(library, cuCtxCreate_v4, PFN_cuCtxCreate_v4, &mut context, null_mut(), 0, 0);
    call!(library, cuStreamCreate, PFN_cuStreamCreate, &mut stream, 0);
    call!(library, cuModuleLoadData, PFN_cuModuleLoadData, &mut module, EMPTY.as_ptr().cast());
    call!(library, cuModuleGetFunction, PFN_cuModuleGetFunction, &mut function, module, c"empty".as_ptr());
    // SAFETY: the types are the generated signatures of these names.
    let (launch, synchronize) = unsafe {
        (
            library.get::<PFN_cuLaunchKernel>(b"cuLaunchKernel")?,
            library.get::<PFN_cuStreamSynchronize>(b"cuStreamSynchronize")?,
        )
    };
    let (mut launches, mut pairs) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let begin = Instant::now();
        // SAFETY: the kernel has no parameters, and the handles live.
        let launched = unsafe { launch(function, 1, 1, 1, 1, 1, 1, 0, stream, null_mut(), null_mut()) };
        launches.push(begin.elapsed().as_secs_f64());
        // SAFETY: the stream lives.
        let waited = unsafe { synchronize(stream) };
        pairs.push(begin.elapsed().as_secs_f64());
        launched.into_result().and(waited.into_result()).map_err(|code| format!("{code:?}"))?;
    }
    println!(
        "empty launch and synchronize: {:.2} µs, of which the launch {:.2} µs (medians of {PAIRS})",
        median(pairs) * 1e6,
        median(launches) * 1e6
    );
    Ok(())
}
