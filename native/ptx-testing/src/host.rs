//! A device made of host buffers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ptx::{Device, Fault, LaunchConfig, LaunchStats, MemoryRange, Module, VariableSpace};

use crate::Engine;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    None,
    Read,
    Write,
}

type Buffer = (Box<[AtomicU64]>, Access);

/// What memory holds that kernels are not given.
const SECRET: u64 = 0x5ec2_e7b1_7e5a_91d3;

/// Buffers that kernels may access, in 64-bit cells, and the engine that runs kernels.
pub struct Host {
    engine: Engine,
    buffers: Mutex<Vec<Buffer>>,
    variables: Mutex<Vec<u64>>,
    /// What kernels printed.
    pub printed: Mutex<Vec<u8>>,
    /// Ends launches.
    pub cancel: AtomicBool,
    /// So many more questions whether to cancel are answered with no.
    patience: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(cells: &[AtomicU64]) -> u64 {
    (cells.as_ptr().addr() as u64).next_multiple_of(16)
}

/// What kernels are given.
fn given(buffers: &[Buffer]) -> impl Iterator<Item = MemoryRange> {
    buffers.iter().filter(|(_, access)| *access != Access::None).map(|(cells, access)| {
        let start = start(cells);
        MemoryRange { start, end: start + 8 * (cells.len() as u64 - 2), writable: *access == Access::Write }
    })
}

impl Host {
    /// Without buffers.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            buffers: Mutex::default(),
            variables: Mutex::default(),
            printed: Mutex::default(),
            cancel: AtomicBool::new(false),
            patience: AtomicU64::new(u64::MAX),
        }
    }

    /// Launches end when they have asked so often whether to.
    pub fn with_patience(self, questions: u64) -> Self {
        self.be_patient(questions);
        self
    }

    /// The same, from now on.
    pub fn be_patient(&self, questions: u64) {
        self.patience.store(questions, Ordering::Relaxed);
    }

    /// A zeroed buffer; its address.
    pub fn buffer(&self, bytes: usize, writable: bool) -> u64 {
        self.memory(bytes, if writable { Access::Write } else { Access::Read })
    }

    /// Memory that kernels are not given; its address. See [`Host::is_intact`] and [`Host::holds_secrets`].
    pub fn secret(&self, bytes: usize) -> u64 {
        let address = self.memory(bytes, Access::None);
        for cell in (0..bytes as u64).step_by(8) {
            self.write(address + cell, &SECRET.to_le_bytes());
        }
        address
    }

    /// Whether a buffer that kernels may write to holds a word of the memory that they are not given.
    pub fn holds_secrets(&self) -> bool {
        let buffers = lock(&self.buffers);
        let mut cells =
            buffers.iter().filter(|(_, access)| *access == Access::Write).flat_map(|(cells, _)| cells);
        cells.any(|cell| cell.load(Ordering::Relaxed) == SECRET)
    }

    fn memory(&self, bytes: usize, access: Access) -> u64 {
        // Two more cells make room for alignment to 16.
        let cells: Box<[AtomicU64]> = (0..bytes.div_ceil(8) + 2).map(|_| AtomicU64::new(0)).collect();
        let address = (cells.as_ptr().expose_provenance() as u64).next_multiple_of(16);
        lock(&self.buffers).push((cells, access));
        address
    }

    /// A writable buffer that holds `bytes`.
    pub fn filled(&self, bytes: &[u8]) -> u64 {
        let address = self.buffer(bytes.len(), true);
        self.write(address, bytes);
        address
    }

    fn cell(&self, address: u64, act: impl FnOnce(&AtomicU64, u64)) {
        for (cells, _) in lock(&self.buffers).iter() {
            let start = cells.as_ptr().addr() as u64;
            if (start..start + 8 * cells.len() as u64).contains(&address) {
                return act(&cells[((address - start) / 8) as usize], (address - start) % 8 * 8);
            }
        }
        panic!("{address:#x} is in no buffer");
    }

    /// Writes into a buffer.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        for (offset, &byte) in bytes.iter().enumerate() {
            self.cell(address + offset as u64, |cell, shift| {
                let word = cell.load(Ordering::Relaxed) & !(0xff << shift) | u64::from(byte) << shift;
                cell.store(word, Ordering::Relaxed);
            });
        }
    }

    /// Reads from a buffer.
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            self.cell(address + offset as u64, |cell, shift| {
                *byte = (cell.load(Ordering::Relaxed) >> shift & 0xff) as u8;
            });
        }
        bytes
    }

    /// Reads 32-bit words.
    pub fn words(&self, address: u64, count: usize) -> Vec<u32> {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        self.read(address, 4 * count).chunks(4).map(word).collect()
    }

    /// Whether what kernels may not write to holds what it held: zeros around the buffers, secrets in the memory that they
    /// are not given, and the sum of `read_only` in the other buffers.
    pub fn is_intact(&self, read_only: u64) -> bool {
        let mut sum = 0u64;
        for (cells, access) in lock(&self.buffers).iter() {
            let first = ((start(cells) - cells.as_ptr().addr() as u64) / 8) as usize;
            let last = first + cells.len() - 2;
            for (index, cell) in cells.iter().enumerate() {
                let value = cell.load(Ordering::Relaxed);
                let inside = (first..last).contains(&index);
                match access {
                    _ if !inside && value != 0 => return false,
                    Access::None if inside && value != SECRET => return false,
                    Access::Read => sum = sum.wrapping_add(value),
                    Access::None | Access::Write => {}
                }
            }
        }
        sum == read_only
    }

    /// Gives the module's variables memory, as a loader does.
    pub fn load(&self, module: &Module) {
        let addresses: Vec<u64> = module
            .variables()
            .iter()
            .map(|variable| self.buffer(variable.size as usize, variable.space == VariableSpace::Global))
            .collect();
        for (variable, &address) in module.variables().iter().zip(&addresses) {
            self.write(address, &variable.initializer);
            for relocation in &variable.relocations {
                let target = match relocation.symbol {
                    ptx::Symbol::Variable(index) => addresses[index],
                    ptx::Symbol::Function(index) => module.function_address(index),
                };
                let value = target.wrapping_add_signed(relocation.addend) >> relocation.shift;
                self.write(address + relocation.offset, &value.to_le_bytes()[..relocation.size as usize]);
            }
        }
        *lock(&self.variables) = addresses;
    }

    /// The address of a variable of the module that was loaded last.
    pub fn variable(&self, index: usize) -> u64 {
        lock(&self.variables)[index]
    }

    /// Launches the first kernel, with 64-bit parameters.
    ///
    /// # Errors
    /// The kernel's fault.
    pub fn run(&self, source: &str, grid: u32, block: u32, params: &[u64]) -> Result<LaunchStats, Fault> {
        self.launch(source, grid, block, params, false)
    }

    /// The same, perhaps with all blocks together.
    ///
    /// # Errors
    /// The kernel's fault.
    pub fn launch(
        &self,
        source: &str,
        grid: u32,
        block: u32,
        params: &[u64],
        cooperative: bool,
    ) -> Result<LaunchStats, Fault> {
        let module = Module::parse(source).unwrap_or_else(|error| panic!("{error}\n{source}"));
        let params: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
        let config = LaunchConfig {
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            dynamic_shared_bytes: 1024,
            params: &params,
            cooperative,
            max_workers: 0,
        };
        self.launch_module(&module, &config)
    }

    /// Launches the first kernel of a module.
    ///
    /// # Errors
    /// The kernel's fault.
    pub fn launch_module(&self, module: &Module, config: &LaunchConfig<'_>) -> Result<LaunchStats, Fault> {
        self.load(module);
        let function = module.entries().next().expect("a kernel");
        (self.engine)(module, function, config, self)
    }
}

// SAFETY: buffers are boxed atomics that live and stay in place as long as the device.
unsafe impl Device for Host {
    fn range(&self, address: u64) -> Option<MemoryRange> {
        given(&lock(&self.buffers)).find(|range| (range.start..range.end).contains(&address))
    }
    fn nearest(&self, address: u64) -> Option<MemoryRange> {
        let buffers = lock(&self.buffers);
        given(&buffers).min_by_key(|range| range.start.abs_diff(address).min(range.end.abs_diff(address)))
    }
    fn generation(&self) -> u64 {
        0
    }
    fn variable_address(&self, index: usize) -> u64 {
        self.variable(index)
    }
    fn printf(&self, text: &[u8]) {
        lock(&self.printed).extend(text);
    }
    fn cancelled(&self) -> bool {
        let left = self.patience.load(Ordering::Relaxed);
        if left != u64::MAX {
            self.patience.store(left.saturating_sub(1), Ordering::Relaxed);
        }
        left == 0 || self.cancel.load(Ordering::Relaxed)
    }
    fn malloc(&self, size: u64) -> u64 {
        if size > 1 << 20 { 0 } else { self.buffer(size as usize, true) }
    }
    fn free(&self, address: u64) -> bool {
        self.range(address).is_some_and(|range| range.start == address)
    }
}

/// A module with one kernel `k` that has up to four 64-bit parameters `p0`…
pub fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3)\n{{\n\
         .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .f32 %f<9>; .reg .b64 %rd<20>; .reg .f64 %fd<9>;\n\
         ld.param.u64 %rd0, [p0];\n{body}\nret;\n}}\n"
    )
}
