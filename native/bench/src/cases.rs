//! What is measured, and beside what.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;

use crate::calls::{BURST, Calls};
use crate::cuda::Cuda;
use crate::direct;
use crate::options::Options;
use crate::raw::Raw;
use crate::report::{Report, print_case, write_json};
use crate::rounds::{Case, Way, interleave};
use crate::start::{self, Start};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The largest copy.
const LARGEST: usize = 64 * MIB;

/// Long enough for everything that spins to have given up.
const PARKING_GAP: Duration = Duration::from_millis(3);

const NANOSECONDS: f64 = 1e9;
const MICROSECONDS: f64 = 1e6;
const MILLISECONDS: f64 = 1e3;

/// The name of the way that is measured against the others.
const OURS: &str = "cuda";

pub fn run(options: &Options) -> anyhow::Result<()> {
    let cuda = Cuda::load()?;
    cuda.init()?;
    let device = cuda.device_name()?;
    let bench = Bench {
        options,
        raw: Raw::connect(options.socket)?,
        calls: Calls::prepare(cuda, LARGEST)?,
        data: incompressible(LARGEST),
        report: RefCell::new(Report {
            device,
            raw: options.socket.name(),
            rounds: options.rounds,
            cases: Vec::new(),
        }),
    };
    bench.launches()?;
    bench.synchronisation()?;
    bench.small_copies()?;
    bench.bulk()?;
    bench.launch_beside_copy()?;
    bench.events_and_memory()?;
    bench.start()?;
    if let Some(path) = &options.json {
        write_json(&bench.report.borrow(), path)?;
    }
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    raw: Raw,
    calls: Calls,
    /// What no compression makes smaller.
    data: Vec<u8>,
    report: RefCell<Report>,
}

impl Bench<'_> {
    fn launches(&self) -> anyhow::Result<()> {
        let count = self.options.amount(20_000);
        let batched = |per_send: u32| {
            way(&format!("raw x{per_send}"), NANOSECONDS, move || self.raw.records(count, per_send))
        };
        let ours = || way(OURS, NANOSECONDS, || self.calls.launches(count));
        let mut ways = vec![batched(8), batched(64), batched(256)];
        ways.extend(self.direct(move |folder| Ok(direct::measure(folder, count)?.caller)));
        ways.push(ours());
        self.case("launch", "ns", ways)?;

        let single = way("one thread", NANOSECONDS, || self.calls.launches(count));
        let four = way("four threads", NANOSECONDS, || self.launches_of_threads(4, count / 4));
        self.case("launch by 4 threads", "ns", vec![single, four])?;

        let many = self.options.amount(200_000);
        let raw = way("raw x64", NANOSECONDS, || self.raw.records(many, 64));
        let ours = way(OURS, NANOSECONDS, || self.calls.sustained_launches(many));
        let mut ways = vec![raw];
        ways.extend(self.direct(move |folder| Ok(direct::measure(folder, many)?.sustained)));
        ways.push(ours);
        self.case("sustained launches", "ns", ways)
    }

    /// The way without a pool, if there is one to compare with.
    fn direct<'w>(&'w self, seconds: impl Fn(&Path) -> anyhow::Result<f64> + 'w) -> Option<Way<'w>> {
        let folder = self.options.direct.as_deref()?;
        Some(way("direct", NANOSECONDS, move || seconds(folder)))
    }

    /// Seconds of a launch when several threads launch at once: the mean over the threads.
    fn launches_of_threads(&self, threads: u32, count: u32) -> anyhow::Result<f64> {
        let sum = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|_| {
                    let calls = self.calls.for_thread();
                    scope.spawn(move || {
                        let calls = calls?;
                        calls.enter()?;
                        calls.launches(count.max(BURST.min(count)))
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
                .sum::<anyhow::Result<f64>>()
        })?;
        Ok(sum / f64::from(threads))
    }

    fn synchronisation(&self) -> anyhow::Result<()> {
        let count = self.options.amount(2_000);
        let stream = way(OURS, MICROSECONDS, || self.calls.stream_synchronize(count, Duration::ZERO));
        self.case("stream synchronize", "µs", self.beside_pings(count, stream))?;
        let context = way(OURS, MICROSECONDS, || self.calls.context_synchronize(count));
        self.case("context synchronize", "µs", self.beside_pings(count, context))?;
        let launch = way(OURS, MICROSECONDS, || self.calls.launch_and_synchronize(count, Duration::ZERO));
        self.case("launch and synchronize", "µs", self.beside_pings(count, launch))?;

        let few = self.options.amount(60);
        let raw = || way("raw blocking", MICROSECONDS, || self.raw.ping(few, false, PARKING_GAP));
        let stream = way(OURS, MICROSECONDS, || self.calls.stream_synchronize(few, PARKING_GAP));
        self.case("stream synchronize, parked", "µs", vec![raw(), stream])?;
        let launch = way(OURS, MICROSECONDS, || self.calls.launch_and_synchronize(few, PARKING_GAP));
        self.case("launch and synchronize, parked", "µs", vec![raw(), launch])
    }

    fn beside_pings<'w>(&'w self, count: u32, ours: Way<'w>) -> Vec<Way<'w>> {
        let ping =
            move |name, spins| way(name, MICROSECONDS, move || self.raw.ping(count, spins, Duration::ZERO));
        vec![ping("raw spinning", true), ping("raw blocking", false), ours]
    }

    fn small_copies(&self) -> anyhow::Result<()> {
        for (name, bytes) in [("4 B", 4), ("4 KiB", 4 * KIB), ("64 KiB", 64 * KIB)] {
            let data = &self.data[..bytes];
            let count = self.options.amount(2_000);
            // Not more than half a send buffer at once: the caller is measured, not the wire.
            let burst = u32::try_from(MIB / bytes)?.min(500);
            let raw = way("raw send", MICROSECONDS, || self.raw.small_sends(data, count));
            let ours = way(OURS, MICROSECONDS, || self.calls.small_to_device(data, count, burst));
            self.case(&format!("HtoD {name}"), "µs", vec![raw, ours])?;

            let fetch = |name, spins| way(name, MICROSECONDS, move || self.raw.fetch(bytes, count, spins));
            let mut buffer = vec![0; bytes];
            let ours = way(OURS, MICROSECONDS, || self.calls.small_to_host(&mut buffer, count));
            let ways = vec![fetch("raw spinning", true), fetch("raw blocking", false), ours];
            self.case(&format!("DtoH {name}"), "µs", ways)?;
        }
        Ok(())
    }

    fn bulk(&self) -> anyhow::Result<()> {
        for bytes in [4 * MIB, 16 * MIB, LARGEST] {
            let name = format!("{} MiB", bytes / MIB);
            let data = &self.data[..bytes];
            let raw = rate("raw", bytes, || self.raw.bulk_out(data));
            let ours = rate(OURS, bytes, || self.calls.bulk_to_device(data));
            self.case(&format!("bulk HtoD {name}"), "GB/s", vec![raw, ours])?;

            let buffer = RefCell::new(vec![0; bytes]);
            let raw = rate("raw", bytes, || self.raw.bulk_in(&mut buffer.borrow_mut()));
            let ours = rate(OURS, bytes, || self.calls.bulk_to_host(&mut buffer.borrow_mut()));
            self.case(&format!("bulk DtoH {name}"), "GB/s", vec![raw, ours])?;
        }
        Ok(())
    }

    /// Launches while another thread copies the largest amount, beside those of the same time without: the slowest for
    /// its caller, and the middle one of those that are waited for.
    fn launch_beside_copy(&self) -> anyhow::Result<()> {
        let data = &self.data;
        let to_device = |copier: &Calls| copier.bulk_to_device(data);
        let to_host = |copier: &Calls| copier.bulk_to_host(&mut vec![0; LARGEST]);
        self.beside_copy("slowest launch beside a copy of 64 MiB", to_device, |calls, busy| {
            calls.slowest_launch(busy)
        })?;
        self.beside_copy("launch and synchronize beside HtoD of 64 MiB", to_device, |calls, busy| {
            calls.waited_launch(busy)
        })?;
        self.beside_copy("launch and synchronize beside DtoH of 64 MiB", to_host, |calls, busy| {
            calls.waited_launch(busy)
        })
    }

    fn beside_copy(
        &self,
        name: &str,
        copy: impl Fn(&Calls) -> anyhow::Result<f64> + Sync,
        launch: impl Fn(&Calls, &mut dyn FnMut() -> bool) -> anyhow::Result<f64>,
    ) -> anyhow::Result<()> {
        let took = Cell::new(Duration::from_millis(10));
        let beside = way(OURS, MICROSECONDS, || {
            let copying = AtomicBool::new(true);
            let copier = self.calls.for_thread()?;
            std::thread::scope(|scope| {
                let copy = scope.spawn(|| {
                    let seconds = copier.enter().and_then(|()| copy(&copier));
                    copying.store(false, Ordering::Relaxed);
                    seconds
                });
                let figure = launch(&self.calls, &mut || copying.load(Ordering::Relaxed));
                let seconds = copy.join().map_err(|_| anyhow!("the copying thread panicked"))??;
                took.set(Duration::from_secs_f64(seconds));
                figure
            })
        });
        let alone = way("without a copy", MICROSECONDS, || {
            let started = std::time::Instant::now();
            launch(&self.calls, &mut || started.elapsed() < took.get())
        });
        self.case(name, "µs", vec![alone, beside])
    }

    fn events_and_memory(&self) -> anyhow::Result<()> {
        let many = self.options.amount(20_000);
        let queries = way(OURS, NANOSECONDS, || self.calls.completed_queries(many));
        self.case("query of a completed event", "ns", vec![queries])?;
        let count = self.options.amount(2_000);
        let poll = way(OURS, MICROSECONDS, || self.calls.poll_for_completion(count));
        self.case("launch, record, poll", "µs", self.beside_pings(count, poll))?;
        let memory = way(OURS, MICROSECONDS, || self.calls.allocate_and_free(MIB, count));
        self.case("allocate and free 1 MiB", "µs", self.beside_pings(count, memory))
    }

    fn start(&self) -> anyhow::Result<()> {
        let last = Cell::new(Start { init: f64::NAN, first_kernel: f64::NAN });
        let init = way(OURS, MILLISECONDS, || {
            last.set(start::measure()?);
            Ok(last.get().init)
        });
        self.case("cuInit in a new process", "ms", vec![init])?;
        let kernel = way(OURS, MILLISECONDS, || Ok(start::measure()?.first_kernel));
        self.case("first kernel of a new process", "ms", vec![kernel])
    }

    fn case(&self, name: &str, unit: &'static str, mut ways: Vec<Way<'_>>) -> anyhow::Result<()> {
        if !self.options.wants(name) {
            return Ok(());
        }
        if self.options.is_alone {
            ways.retain(|way| way.name == OURS);
        }
        let case: Case = interleave(name, unit, self.options.rounds, ways)?;
        print_case(&case);
        self.report.borrow_mut().cases.push(case);
        Ok(())
    }
}

/// A way that answers seconds, shown in `units_per_second`.
fn way<'w>(
    name: &str,
    units_per_second: f64,
    mut seconds: impl FnMut() -> anyhow::Result<f64> + 'w,
) -> Way<'w> {
    Way { name: name.to_owned(), measure: Box::new(move || Ok(seconds()? * units_per_second)) }
}

/// A way that answers the seconds of so many bytes, shown in GB/s.
fn rate<'w>(name: &str, bytes: usize, mut seconds: impl FnMut() -> anyhow::Result<f64> + 'w) -> Way<'w> {
    // Exact: no amount here comes near 2^53.
    let gigabytes = u32::try_from(bytes).map_or(f64::NAN, f64::from) / 1e9;
    Way { name: name.to_owned(), measure: Box::new(move || Ok(gigabytes / seconds()?)) }
}

/// Bytes of a xorshift generator: peers that compress are compared with by what cannot be compressed.
fn incompressible(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(bytes);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    data
}
