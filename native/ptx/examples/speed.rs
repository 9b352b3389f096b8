//! With PTX files as arguments: parses them and lists unsupported functions. Without: measures thread
//! instructions per second of an arithmetic loop, and the cost of an empty launch.

#![allow(clippy::cast_precision_loss, reason = "a rate for people")]

use std::time::Instant;

use ptx::{Device, LaunchConfig, MemoryRange, Module};

struct Nothing;

// SAFETY: it vouches for no memory at all.
#[allow(unsafe_code, reason = "the trait is unsafe")]
unsafe impl Device for Nothing {
    fn range(&self, _: u64) -> Option<MemoryRange> {
        None
    }
    fn generation(&self) -> u64 {
        0
    }
    fn variable_address(&self, _: usize) -> u64 {
        0
    }
    fn printf(&self, _: &[u8]) {}
    fn cancelled(&self) -> bool {
        false
    }
    fn malloc(&self, _: u64) -> u64 {
        0
    }
    fn free(&self, _: u64) -> bool {
        false
    }
}

fn main() {
    for path in std::env::args().skip(1) {
        match Module::parse(&std::fs::read_to_string(&path).unwrap_or_default()) {
            Ok(module) => module
                .entries()
                .filter_map(|function| Some((&function.name, function.unsupported.as_ref()?)))
                .for_each(|(name, unsupported)| println!("{path}: {name}: {unsupported}")),
            Err(error) => println!("{path}: {error}"),
        }
    }
    let text = |body: &str| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {{ .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .pred %p<2>; {body} ret; }}"
        )
    };
    let run = |body: &str, grid: u32, workers: usize, times: u32| {
        let module = Module::parse(&text(body)).expect("valid");
        let config = LaunchConfig {
            grid: [grid, 1, 1],
            block: [128, 1, 1],
            dynamic_shared_bytes: 0,
            params: &[],
            cooperative: false,
            max_workers: workers,
        };
        let start = Instant::now();
        let mut instructions = 0;
        for _ in 0..times {
            instructions += ptx::launch(&module, module.entry("k").expect("k"), &config, &Nothing)
                .map_or(0, |stats| stats.instructions);
        }
        (instructions, start.elapsed())
    };
    let body = ".shared .b32 cell[32]; mov.u32 %r1, 0; mov.f32 %f1, 0f3F800000; mov.u32 %r2, %laneid; mov.u32 %r4, cell; mad.lo.u32 %r2, %r2, 4, %r4; LOOP: fma.rn.f32 %f1, %f1, %f1, %f1; mul.f32 %f2, %f1, %f1;\
        st.shared.f32 [%r2], %f2; ld.shared.u32 %r3, [%r2]; add.s32 %r1, %r1, 1; and.b32 %r3, %r3, 255; setp.lt.s32 %p1, %r1, 2000; @%p1 bra LOOP;";
    let (instructions, time) = run(body, 20, 1, 1);
    println!(
        "{:.0} million thread instructions per second on one core",
        instructions as f64 / time.as_secs_f64() / 1e6
    );
    let (_, time) = run("", 1, 0, 1000);
    println!("{:.1} microseconds for an empty launch of one block of 128 threads", time.as_secs_f64() * 1e3);
}
