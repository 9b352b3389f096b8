//! A device made of host buffers.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ptx::{Device, LaunchConfig, LaunchStats, MemoryRange, Module, VariableSpace};

/// Buffers that kernels may access, in 64-bit cells.
#[derive(Default)]
pub struct Host {
    buffers: Mutex<Vec<(Box<[AtomicU64]>, bool)>>,
    variables: Mutex<Vec<u64>>,
    pub printed: Mutex<Vec<u8>>,
    pub cancel: AtomicBool,
    generation: AtomicU64,
}

impl Host {
    /// A zeroed buffer; its address.
    pub fn buffer(&self, bytes: usize, writable: bool) -> u64 {
        // Two more cells make room for alignment to 16.
        let cells: Box<[AtomicU64]> = (0..bytes.div_ceil(8) + 2).map(|_| AtomicU64::new(0)).collect();
        let address = (cells.as_ptr().expose_provenance() as u64).next_multiple_of(16);
        self.buffers.lock().unwrap().push((cells, writable));
        address
    }

    pub fn filled(&self, bytes: &[u8]) -> u64 {
        let address = self.buffer(bytes.len(), true);
        self.write(address, bytes);
        address
    }

    fn cell(&self, address: u64, act: impl FnOnce(&AtomicU64, u64)) {
        let buffers = self.buffers.lock().unwrap();
        for (cells, _) in buffers.iter() {
            let start = cells.as_ptr().addr() as u64;
            if (start..start + 8 * cells.len() as u64).contains(&address) {
                return act(&cells[((address - start) / 8) as usize], (address - start) % 8 * 8);
            }
        }
        panic!("{address:#x} is in no buffer");
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        for (offset, &byte) in bytes.iter().enumerate() {
            self.cell(address + offset as u64, |cell, shift| {
                let word = cell.load(Ordering::Relaxed) & !(0xff << shift) | u64::from(byte) << shift;
                cell.store(word, Ordering::Relaxed);
            });
        }
    }

    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            self.cell(address + offset as u64, |cell, shift| {
                *byte = (cell.load(Ordering::Relaxed) >> shift & 0xff) as u8
            });
        }
        bytes
    }

    pub fn words(&self, address: u64, count: usize) -> Vec<u32> {
        self.read(address, 4 * count)
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect()
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
        *self.variables.lock().unwrap() = addresses;
    }

    pub fn variable(&self, index: usize) -> u64 {
        self.variables.lock().unwrap()[index]
    }

    /// Launches the only kernel, with 64-bit parameters.
    pub fn run(
        &self,
        source: &str,
        grid: u32,
        block: u32,
        params: &[u64],
    ) -> Result<LaunchStats, ptx::Fault> {
        self.launch(source, grid, block, params, false)
    }

    pub fn launch(
        &self,
        source: &str,
        grid: u32,
        block: u32,
        params: &[u64],
        cooperative: bool,
    ) -> Result<LaunchStats, ptx::Fault> {
        let module = Module::parse(source).unwrap_or_else(|error| panic!("{error}\n{source}"));
        self.load(&module);
        let params: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
        let config = LaunchConfig {
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            dynamic_shared_bytes: 1024,
            params: &params,
            cooperative,
            max_workers: 0,
        };
        let function = module.entries().next().expect("a kernel");
        crate::launch(&module, function, &config, self)
    }
}

// SAFETY: buffers are boxed atomics that live and stay in place as long as the device.
unsafe impl Device for Host {
    fn range(&self, address: u64) -> Option<MemoryRange> {
        let buffers = self.buffers.lock().unwrap();
        buffers.iter().find_map(|(cells, writable)| {
            let start = (cells.as_ptr().addr() as u64).next_multiple_of(16);
            let end = start + 8 * (cells.len() as u64 - 2);
            (start..end).contains(&address).then_some(MemoryRange { start, end, writable: *writable })
        })
    }
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
    fn variable_address(&self, index: usize) -> u64 {
        self.variable(index)
    }
    fn printf(&self, text: &[u8]) {
        self.printed.lock().unwrap().extend(text);
    }
    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
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
