//! The simulated GPUs as NVML describes them. `CUDA_VISIBLE_DEVICES` hides none of them: NVML's never does.

use nvml::{Gpu, Machine, Process, Refused};
use simgpu_machine::config::config;
use simgpu_machine::{accounting, identity};

/// Looks at them.
pub fn look() -> Result<Machine, Refused> {
    let gpus: Vec<Gpu> = (0..config().devices).map(describe).collect();
    if gpus.is_empty() {
        let sentence = "FARPOOL_SIMGPU_DEVICES is 0: there is no simulated GPU".to_owned();
        return Err(Refused { sentence, is_final: true });
    }
    Ok(Machine {
        release: Some(env!("CARGO_PKG_VERSION").to_owned()),
        cuda_version: identity::DRIVER_VERSION,
        gpus,
    })
}

fn describe(physical: usize) -> Gpu {
    let processes: Vec<Process> = accounting::processes(physical).into_iter().map(process).collect();
    Gpu {
        uuid: format!("GPU-{}", cuda_abi::export_tables::uuid_text(&identity::uuid_of(physical))),
        name: identity::name(),
        pci: (0, identity::pci_bus(physical).unsigned_abs(), 0),
        capability: identity::CAPABILITY,
        multiprocessors: config().multiprocessors.unsigned_abs(),
        memory_total: config().memory_of(physical),
        memory_used: processes.iter().map(|process| process.memory_used).sum(),
        processes,
        // Cores have no temperature of their own, no ECC and no MIG, and nobody measures how busy they are for a GPU.
        ..Gpu::default()
    }
}

fn process((pid, memory_used): (u32, u64)) -> Process {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Process { pid, program: name.trim().to_owned(), memory_used, busy: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_seen_as_its_own() {
        const BYTES: u64 = 3 << 20;
        let total = config().memory_of(0);
        let before = look().expect("GPUs").gpus[0].memory_used;
        accounting::reserve(0, BYTES, total).expect("room");
        let gpu = look().expect("GPUs").gpus.remove(0);
        accounting::release(0, BYTES);
        assert_eq!(gpu.memory_total, total);
        assert!(gpu.memory_used >= before.min(gpu.memory_used) && gpu.memory_used >= BYTES);
        let own =
            gpu.processes.iter().find(|process| process.pid == std::process::id()).expect("this process");
        assert_eq!(own.memory_used, BYTES);
        assert!(
            !look().expect("GPUs").gpus[0].processes.iter().any(|process| process.pid == std::process::id())
        );
    }
}
