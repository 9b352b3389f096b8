//! CUDA calls, timed.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use crate::cuda::{Cuda, DevicePointer, Handle};

/// A kernel whose two parameters it ignores: only the call is measured.
const PTX: &CStr = c"
.version 7.0
.target sm_80
.address_size 64
.visible .entry nothing(.param .u64 pointer, .param .u32 count)
{
    ret;
}
";

/// Launches of one burst. More would fill the sender's buffer, and measure the wire instead of the caller.
pub const BURST: u32 = 1000;

/// An attached process: a context, a stream, a kernel and some memory.
#[derive(Clone, Copy)]
pub struct Calls {
    cuda: Cuda,
    context: Handle,
    stream: Handle,
    kernel: Handle,
    event: Handle,
    memory: DevicePointer,
}

impl Calls {
    /// Everything up to the first finished kernel. `memory` is in bytes.
    pub fn prepare(cuda: Cuda, memory: usize) -> anyhow::Result<Calls> {
        let context = cuda.primary_context()?;
        let calls = Calls {
            cuda,
            context,
            stream: cuda.stream()?,
            kernel: cuda.kernel(PTX, c"nothing")?,
            event: cuda.event()?,
            memory: cuda.allocate(memory)?,
        };
        calls.launch(calls.stream)?;
        cuda.stream_synchronize(calls.stream)?;
        Ok(calls)
    }

    /// The same on a stream of its own, for another thread; that thread must call [`Calls::enter`].
    pub fn for_thread(&self) -> anyhow::Result<Calls> {
        Ok(Calls { stream: self.cuda.stream()?, ..*self })
    }

    pub fn enter(&self) -> anyhow::Result<()> {
        self.cuda.set_current(self.context)
    }

    fn launch(&self, stream: Handle) -> anyhow::Result<()> {
        self.cuda.launch(self.kernel, stream, (self.memory, 1))
    }

    /// Seconds that a launch costs its caller, in bursts.
    pub fn launches(&self, count: u32) -> anyhow::Result<f64> {
        let mut total = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let burst = left.min(BURST);
            let started = Instant::now();
            for _ in 0..burst {
                self.launch(self.stream)?;
            }
            total += started.elapsed();
            self.cuda.stream_synchronize(self.stream)?;
            left -= burst;
        }
        Ok(total.as_secs_f64() / f64::from(count))
    }

    /// Seconds per launch when one follows the other until the last is done.
    pub fn sustained_launches(&self, count: u32) -> anyhow::Result<f64> {
        let started = Instant::now();
        for _ in 0..count {
            self.launch(self.stream)?;
        }
        self.cuda.stream_synchronize(self.stream)?;
        Ok(started.elapsed().as_secs_f64() / f64::from(count))
    }

    /// Seconds of the slowest of the launches that are made while `busy` says so, at least one.
    pub fn slowest_launch(&self, mut busy: impl FnMut() -> bool) -> anyhow::Result<f64> {
        /// Between two launches, so that they meet the copy at different points.
        const GAP: Duration = Duration::from_micros(200);
        let mut slowest = Duration::ZERO;
        loop {
            let started = Instant::now();
            self.launch(self.stream)?;
            slowest = slowest.max(started.elapsed());
            if !busy() {
                self.cuda.stream_synchronize(self.stream)?;
                return Ok(slowest.as_secs_f64());
            }
            std::thread::sleep(GAP);
        }
    }

    /// Seconds of a launch that is waited for, the middle one of those that are made while `busy` says so.
    pub fn waited_launch(&self, mut busy: impl FnMut() -> bool) -> anyhow::Result<f64> {
        let mut all = Vec::new();
        loop {
            let started = Instant::now();
            self.launch(self.stream)?;
            self.cuda.stream_synchronize(self.stream)?;
            all.push(started.elapsed());
            if !busy() {
                all.sort_unstable();
                return Ok(all[all.len() / 2].as_secs_f64());
            }
        }
    }

    /// Seconds of an empty `cuStreamSynchronize`; `gap` lets both ends park between two.
    pub fn stream_synchronize(&self, count: u32, gap: Duration) -> anyhow::Result<f64> {
        each(count, gap, || self.cuda.stream_synchronize(self.stream))
    }

    pub fn context_synchronize(&self, count: u32) -> anyhow::Result<f64> {
        each(count, Duration::ZERO, || self.cuda.context_synchronize())
    }

    pub fn launch_and_synchronize(&self, count: u32, gap: Duration) -> anyhow::Result<f64> {
        each(count, gap, || {
            self.launch(self.stream)?;
            self.cuda.stream_synchronize(self.stream)
        })
    }

    /// Seconds that a synchronous copy to the device costs its caller, in bursts of at most `burst`.
    pub fn small_to_device(&self, bytes: &[u8], count: u32, burst: u32) -> anyhow::Result<f64> {
        let mut total = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let here = left.min(burst);
            let started = Instant::now();
            for _ in 0..here {
                self.cuda.copy_to_device(self.memory, bytes)?;
            }
            total += started.elapsed();
            self.cuda.context_synchronize()?;
            left -= here;
        }
        Ok(total.as_secs_f64() / f64::from(count))
    }

    pub fn small_to_host(&self, buffer: &mut [u8], count: u32) -> anyhow::Result<f64> {
        each(count, Duration::ZERO, || self.cuda.copy_to_host(buffer, self.memory))
    }

    /// Seconds until everything is on the device.
    pub fn bulk_to_device(&self, bytes: &[u8]) -> anyhow::Result<f64> {
        let started = Instant::now();
        self.cuda.copy_to_device(self.memory, bytes)?;
        self.cuda.context_synchronize()?;
        Ok(started.elapsed().as_secs_f64())
    }

    pub fn bulk_to_host(&self, buffer: &mut [u8]) -> anyhow::Result<f64> {
        let started = Instant::now();
        self.cuda.copy_to_host(buffer, self.memory)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Seconds of asking for an event that has long been complete.
    pub fn completed_queries(&self, count: u32) -> anyhow::Result<f64> {
        self.cuda.record(self.event, self.stream)?;
        self.cuda.stream_synchronize(self.stream)?;
        each(count, Duration::ZERO, || self.cuda.is_complete(self.event).map(drop))
    }

    /// Seconds from a launch until polling its event says that it is done.
    pub fn poll_for_completion(&self, count: u32) -> anyhow::Result<f64> {
        each(count, Duration::ZERO, || {
            self.launch(self.stream)?;
            self.cuda.record(self.event, self.stream)?;
            while !self.cuda.is_complete(self.event)? {
                std::hint::spin_loop();
            }
            Ok(())
        })
    }

    pub fn allocate_and_free(&self, bytes: usize, count: u32) -> anyhow::Result<f64> {
        each(count, Duration::ZERO, || self.cuda.free(self.cuda.allocate(bytes)?))
    }
}

/// Seconds of one call; the pause before each is not counted.
fn each(count: u32, gap: Duration, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut total = Duration::ZERO;
    if gap.is_zero() {
        let started = Instant::now();
        for _ in 0..count {
            call()?;
        }
        total = started.elapsed();
    } else {
        for _ in 0..count {
            std::thread::sleep(gap);
            let started = Instant::now();
            call()?;
            total += started.elapsed();
        }
    }
    Ok(total.as_secs_f64() / f64::from(count))
}
