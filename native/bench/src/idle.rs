//! What an attached process costs while it does nothing.

use std::time::{Duration, Instant};

use crate::calls::Calls;
use crate::cuda::Cuda;

/// What spins may still be spinning after the last call.
const SETTLE: Duration = Duration::from_millis(500);

const MEMORY: usize = 1 << 20;

/// Says `idle` when nothing is left to do, waits, and prints this process's share of a core in the meantime. Whoever
/// started it looks at the worker in that time.
pub fn run(time: Duration) -> anyhow::Result<()> {
    let cuda = Cuda::load()?;
    cuda.init()?;
    let _calls = Calls::prepare(cuda, MEMORY)?;
    std::thread::sleep(SETTLE);
    println!("idle");
    let (used, started) = (processor_time(), Instant::now());
    std::thread::sleep(time);
    let share = (processor_time() - used).as_secs_f64() / started.elapsed().as_secs_f64();
    println!("client {share}");
    Ok(())
}

/// What all threads of this process have used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
