//! What is known of the GPUs. `None` is what nobody tells: the call that asks for it answers NOT_SUPPORTED.

/// The GPUs that a program may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// The driver's release (`580.95.05`).
    pub release: Option<String>,
    /// CUDA's version: 13000 is 13.0.
    pub cuda_version: i32,
    /// The GPUs, in CUDA's order.
    pub gpus: Vec<Gpu>,
}

/// One GPU, or the slice of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gpu {
    /// `GPU-…`
    pub uuid: String,
    /// As CUDA names it.
    pub name: String,
    /// Domain, bus and device.
    pub pci: (u32, u32, u32),
    /// Compute capability.
    pub capability: (i32, i32),
    /// How many multiprocessors it has.
    pub multiprocessors: u32,
    /// Bytes of memory: of a slice, the slice's.
    pub memory_total: u64,
    /// Bytes in use.
    pub memory_used: u64,
    /// Percent of the last sample in which it worked.
    pub busy: Option<u32>,
    /// In degrees Celsius.
    pub temperature: Option<u32>,
    /// Memory errors since the driver was loaded; none without ECC.
    pub ecc: Option<Ecc>,
    /// Why its clocks are held down, as NVML's bits.
    pub throttling: Option<u64>,
    /// Whether it is divided by MIG.
    pub mig: Option<bool>,
    /// Who uses it.
    pub processes: Vec<Process>,
}

/// Memory errors that ECC has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ecc {
    /// Those that it mended.
    pub corrected: u64,
    /// Those that it could not mend.
    pub uncorrected: u64,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Its number where the program that asks lives.
    pub pid: u32,
    /// Its program.
    pub program: String,
    /// Bytes of this GPU's memory that it uses.
    pub memory_used: u64,
    /// Percent of the last sample in which it used a GPU.
    pub busy: Option<u32>,
}

impl Gpu {
    /// Cores of all multiprocessors, where it is known how many one has.
    pub fn cores(&self) -> Option<u32> {
        let each = match self.capability {
            (6, 0) | (7, _) | (8, 0) => 64,
            (5 | 6 | 8 | 9 | 10 | 11 | 12, _) => 128,
            _ => return None,
        };
        self.multiprocessors.checked_mul(each)
    }

    /// `00000000:01:00.0`, as NVML spells it.
    pub fn pci_text(&self) -> String {
        let (domain, bus, device) = self.pci;
        format!("{domain:08X}:{bus:02X}:{device:02X}.0")
    }

    /// `0000:01:00.0`, as NVML spelled it before domains had 32 bits.
    pub fn pci_legacy_text(&self) -> String {
        let (domain, bus, device) = self.pci;
        format!("{:04X}:{bus:02X}:{device:02X}.0", domain & 0xffff)
    }
}
