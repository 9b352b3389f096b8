//! Measures compiled kernels beside interpreted ones and, where it is installed, PoCL: a tiled matrix product on one core,
//! the time to compile, and an empty launch. Everything is interleaved; ratios of medians are printed, since nobody
//! else's machine is as fast as this one.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::result_large_err,
    reason = "sizes are small and chosen here"
)]

mod host;
mod pocl;
mod programs;

use host::Host;
use ptx::{Fault, LaunchConfig, LaunchStats, Module};

/// Rows and columns of the matrices.
const SIZE: u32 = 256;
/// An uneven number of runs of each.
const RUNS: usize = 9;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Processor time of this process: others may be using the cores too.
fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and the time goes to a place for it.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn seconds(act: impl FnOnce()) -> f64 {
    let begin = now();
    act();
    now() - begin
}

type Launch<'a> = &'a dyn Fn(&LaunchConfig<'_>, &Host) -> Result<LaunchStats, Fault>;

struct Product {
    host: Host,
    params: Vec<u8>,
    c: u64,
}

impl Product {
    fn new() -> Self {
        let host = Host::default();
        let values = |factor: usize, modulus: usize| -> Vec<u8> {
            (0..(SIZE * SIZE) as usize)
                .flat_map(|i| ((i * factor % modulus) as f32 - 6.0).to_le_bytes())
                .collect()
        };
        let (a, b) = (host.filled(&values(7, 17)), host.filled(&values(5, 13)));
        let c = host.buffer((SIZE * SIZE * 4) as usize);
        let mut params: Vec<u8> = [a, b, c].iter().flat_map(|address| address.to_le_bytes()).collect();
        params.extend(SIZE.to_le_bytes());
        Self { host, params, c }
    }

    fn run(&self, launch: Launch<'_>) -> f64 {
        let config = LaunchConfig {
            grid: [SIZE / 16, SIZE / 16, 1],
            block: [16, 16, 1],
            dynamic_shared_bytes: 0,
            params: &self.params,
            cooperative: false,
            max_workers: 1,
        };
        seconds(|| {
            launch(&config, &self.host).expect("the product runs");
        })
    }

    fn result(&self) -> Vec<u32> {
        self.host.words(self.c, (SIZE * SIZE) as usize)
    }
}

fn products() {
    let module = Module::parse(&programs::product()).expect("the program is right");
    let function = module.entry("product").expect("the kernel");
    let compiled = ptx_compiler::Kernel::new(function).eagerly();
    let by_compiler =
        |config: &LaunchConfig<'_>, host: &Host| compiled.launch(&module, function, config, host);
    let by_interpreter =
        |config: &LaunchConfig<'_>, host: &Host| ptx::launch(&module, function, config, host);
    let product = Product::new();
    product.run(&by_interpreter);
    let expected = product.result();
    product.run(&by_compiler);
    assert!(compiled.take_refusals().is_empty(), "the kernel is compiled");
    assert_eq!(product.result(), expected, "both engines answer alike");
    if std::env::args().any(|argument| argument == "--profile") {
        // For a profiler: nothing but compiled products.
        for _ in 0..400 {
            product.run(&by_compiler);
        }
        return;
    }
    let mut pocl = pocl::Product::new(SIZE, programs::PRODUCT_OPENCL);
    let (mut fast, mut slow, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        fast.push(product.run(&by_compiler));
        slow.push(product.run(&by_interpreter));
        if let Ok(pocl) = &mut pocl {
            other.push(pocl.run());
        }
    }
    let (fast, slow) = (median(fast), median(slow));
    println!("tiled product, one core: compiled / interpreted = {:.1}", slow / fast);
    match pocl {
        Ok(_) => println!("tiled product, one core: compiled / PoCL = {:.2}", median(other) / fast),
        Err(reason) => println!("tiled product, one core: no PoCL ({reason})"),
    }
    if std::env::args().any(|argument| argument == "--absolute") {
        println!("GFLOP/s: {:.2}", 2.0 * f64::from(SIZE).powi(3) / fast / 1e9);
    }
}

fn shapes() {
    for (name, body) in programs::SHAPES {
        let module = Module::parse(&programs::shape(body)).expect("the program is right");
        let function = module.entries().next().expect("a kernel");
        let compiled = ptx_compiler::Kernel::new(function).eagerly();
        let host = Host::default();
        let params = host.buffer(16384 + 4 * 8192).to_le_bytes();
        let config = LaunchConfig {
            grid: [64, 1, 1],
            block: [128, 1, 1],
            dynamic_shared_bytes: 0,
            params: &params,
            cooperative: false,
            max_workers: 1,
        };
        let run = |launch: Launch<'_>| {
            seconds(|| {
                launch(&config, &host).expect("the kernel runs");
            })
        };
        let by_compiler =
            |config: &LaunchConfig<'_>, host: &Host| compiled.launch(&module, function, config, host);
        let by_interpreter =
            |config: &LaunchConfig<'_>, host: &Host| ptx::launch(&module, function, config, host);
        run(&by_compiler);
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            fast.push(run(&by_compiler));
            slow.push(run(&by_interpreter));
        }
        println!("{name}: compiled / interpreted = {:.2}", median(slow) / median(fast));
    }
}

fn compile_times() {
    for (name, text) in [("product", programs::product()), ("polynomial", programs::polynomial())] {
        let module = Module::parse(&text).expect("the program is right");
        let function = module.entries().next().expect("a kernel");
        let count = ptx::engine::code(function).insts.len();
        let params = [0; 64];
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let config = LaunchConfig {
                grid: [1; 3],
                block: [16, 1, 1],
                dynamic_shared_bytes: 0,
                params: &params,
                cooperative: false,
                max_workers: 1,
            };
            let host = Host::default();
            let compiled = ptx_compiler::Kernel::new(function).eagerly();
            times.push(seconds(|| {
                let _ = compiled.launch(&module, function, &config, &host);
            }));
        }
        let time = median(times) * 1e3 * 100.0 / count as f64;
        println!("compile {name}: {time:.2} ms per 100 instructions, of the goal of 5 ms {:.2}", time / 5.0);
    }
}

fn empty_launches() {
    let module = Module::parse(&programs::empty()).expect("the program is right");
    let function = module.entries().next().expect("a kernel");
    let compiled = ptx_compiler::Kernel::new(function);
    let host = Host::default();
    let config = LaunchConfig {
        grid: [1; 3],
        block: [1; 3],
        dynamic_shared_bytes: 0,
        params: &[],
        cooperative: false,
        max_workers: 0,
    };
    let many = 1000;
    let run = |launch: Launch<'_>| {
        seconds(|| {
            for _ in 0..many {
                launch(&config, &host).expect("nothing runs");
            }
        }) / f64::from(many)
    };
    let by_compiler =
        |config: &LaunchConfig<'_>, host: &Host| compiled.launch(&module, function, config, host);
    let by_interpreter =
        |config: &LaunchConfig<'_>, host: &Host| ptx::launch(&module, function, config, host);
    run(&by_compiler);
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        fast.push(run(&by_compiler));
        slow.push(run(&by_interpreter));
    }
    let (fast, slow) = (median(fast) * 1e6, median(slow) * 1e6);
    println!(
        "empty launch: compiled / interpreted time = {:.2}, of the goal of 2 µs {:.2}",
        fast / slow,
        fast / 2.0
    );
}

fn main() {
    products();
    shapes();
    compile_times();
    empty_launches();
}
