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
use ptx::{Fault, Function, LaunchConfig, LaunchStats, Module};
use ptx_compiler::{Effort, Kernel};

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

/// Medians of several ways to do the same, which take turns.
fn medians<const WAYS: usize>(mut ways: [&mut dyn FnMut() -> f64; WAYS]) -> [f64; WAYS] {
    let mut times = [const { Vec::new() }; WAYS];
    for _ in 0..RUNS {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            times.push(way());
        }
    }
    times.map(median)
}

/// A kernel of a module of its own, and what is compiled of it.
struct Program {
    module: Module,
    compiled: Kernel,
}

#[derive(Clone, Copy)]
enum Engine {
    Compiler,
    Interpreter,
}

impl Program {
    fn new(text: &str, prepare: impl FnOnce(&Function) -> Kernel) -> Self {
        let module = Module::parse(text).expect("the program is right");
        let compiled = prepare(module.entries().next().expect("a kernel"));
        Self { module, compiled }
    }

    fn function(&self) -> &Function {
        self.module.entries().next().expect("a kernel")
    }

    /// Launches it so often on one core.
    fn launch(&self, engine: Engine, shape: Shape, params: &[u8], host: &Host, times: u32) {
        for _ in 0..times {
            self.launch_once(engine, shape, params, host).expect("the kernel runs");
        }
    }

    fn launch_once(
        &self,
        engine: Engine,
        shape: Shape,
        params: &[u8],
        host: &Host,
    ) -> Result<LaunchStats, Fault> {
        let config = LaunchConfig {
            grid: shape.grid,
            block: shape.block,
            dynamic_shared_bytes: 0,
            params,
            cooperative: false,
            max_workers: 1,
        };
        match engine {
            Engine::Compiler => self.compiled.launch(&self.module, self.function(), &config, host),
            Engine::Interpreter => ptx::launch(&self.module, self.function(), &config, host),
        }
    }

    /// The median times of both engines.
    fn compare(&self, shape: Shape, params: &[u8], host: &Host, times: u32) -> [f64; 2] {
        let run = |engine| seconds(|| self.launch(engine, shape, params, host, times));
        run(Engine::Compiler);
        medians([&mut || run(Engine::Compiler), &mut || run(Engine::Interpreter)])
    }
}

#[derive(Clone, Copy)]
struct Shape {
    grid: [u32; 3],
    block: [u32; 3],
}

fn products() {
    let program =
        Program::new(&programs::product(), |function| Kernel::new(function).eagerly(Effort::Thorough));
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
    let shape = Shape { grid: [SIZE / 16, SIZE / 16, 1], block: [16, 16, 1] };
    let run = |engine| seconds(|| program.launch(engine, shape, &params, &host, 1));
    let result = |engine| {
        run(engine);
        host.words(c, (SIZE * SIZE) as usize)
    };
    assert_eq!(result(Engine::Interpreter), result(Engine::Compiler), "both engines answer alike");
    assert!(program.compiled.take_refusals().is_empty(), "the kernel is compiled");
    if std::env::args().any(|argument| argument == "--profile") {
        // For a profiler: nothing but compiled products.
        program.launch(Engine::Compiler, shape, &params, &host, 400);
        return;
    }
    let mut pocl = pocl::Product::new(SIZE, programs::PRODUCT_OPENCL);
    let mut other = || pocl.as_mut().map_or(0.0, pocl::Product::run);
    let [fast, slow, other] =
        medians([&mut || run(Engine::Compiler), &mut || run(Engine::Interpreter), &mut other]);
    println!("tiled product, one core: compiled / interpreted = {:.1}", slow / fast);
    match pocl {
        Ok(_) => println!("tiled product, one core: compiled / PoCL = {:.2}", other / fast),
        Err(reason) => println!("tiled product, one core: no PoCL ({reason})"),
    }
    if std::env::args().any(|argument| argument == "--absolute") {
        println!("GFLOP/s: {:.2}", 2.0 * f64::from(SIZE).powi(3) / fast / 1e9);
    }
}

fn shapes() {
    for (name, body) in programs::SHAPES {
        let program =
            Program::new(&programs::shape(body), |function| Kernel::new(function).eagerly(Effort::Thorough));
        let host = Host::default();
        let params = host.buffer(16384 + 4 * 8192).to_le_bytes();
        let shape = Shape { grid: [64, 1, 1], block: [128, 1, 1] };
        let [fast, slow] = program.compare(shape, &params, &host, 1);
        println!("{name}: compiled / interpreted = {:.2}", slow / fast);
    }
}

fn compile_times() {
    for effort in [Effort::Quick, Effort::Thorough] {
        compile_times_with(effort);
    }
}

/// A kernel is compiled quickly when it is first worth it, and thoroughly when its launches took long.
fn compile_times_with(effort: Effort) {
    for (name, text) in [("product", programs::product()), ("polynomial", programs::polynomial())] {
        let compile = || {
            let program = Program::new(&text, |function| Kernel::new(function).eagerly(effort));
            let (host, shape) = (Host::default(), Shape { grid: [1; 3], block: [16, 1, 1] });
            // The launch compiles, and ends soon: the parameters are zeros.
            seconds(|| drop(program.launch_once(Engine::Compiler, shape, &[0; 64], &host)))
        };
        let [time] = medians([&mut { compile }]);
        let count = ptx::engine::code(Program::new(&text, Kernel::new).function()).insts.len();
        let time = time * 1e3 * 100.0 / count as f64;
        println!(
            "compile {name}, {effort:?}: {time:.2} ms per 100 instructions, of the goal of 5 ms {:.2}",
            time / 5.0
        );
    }
}

fn empty_launches() {
    let program = Program::new(&programs::empty(), Kernel::new);
    let many = 1000;
    let times = program.compare(Shape { grid: [1; 3], block: [1; 3] }, &[], &Host::default(), many);
    let [fast, slow] = times.map(|time| time * 1e6 / f64::from(many));
    println!(
        "empty launch: compiled / interpreted time = {:.2}, of the goal of 2 µs {:.2}",
        fast / slow,
        fast / 2.0
    );
}

fn main() {
    if std::env::args().any(|argument| argument == "--profile-compiling") {
        // For a profiler: nothing but compiling.
        return (0..20).for_each(|_| compile_times());
    }
    products();
    shapes();
    compile_times();
    empty_launches();
}
