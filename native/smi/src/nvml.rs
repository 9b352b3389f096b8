//! NVML, found as every program finds it: by its name.

use std::ffi::{CStr, CString, c_char};

use libloading::Library;
use nvml::{
    PFN_nvmlDeviceGetComputeRunningProcesses_v3, PFN_nvmlDeviceGetCount_v2,
    PFN_nvmlDeviceGetHandleByIndex_v2, PFN_nvmlDeviceGetMemoryInfo_v2, PFN_nvmlDeviceGetPciInfo_v3,
    PFN_nvmlDeviceGetTotalEccErrors, PFN_nvmlDeviceGetUtilizationRates, PFN_nvmlErrorString, PFN_nvmlInit_v2,
    PFN_nvmlShutdown, PFN_nvmlSystemGetProcessName, nvmlDevice_t, nvmlMemory_v2_t, nvmlPciInfo_t,
    nvmlProcessInfo_t, nvmlReturn_t, nvmlUtilization_t,
};

const NAME: &str = "libnvidia-ml.so.1";

/// Longer than any text of NVML's.
const TEXT_BYTES: usize = 1024;

type TextOfDevice = unsafe extern "C" fn(nvmlDevice_t, *mut c_char, u32) -> nvmlReturn_t;
type TextOfSystem = unsafe extern "C" fn(*mut c_char, u32) -> nvmlReturn_t;
type NumberOfDevice = unsafe extern "C" fn(nvmlDevice_t, *mut u32) -> nvmlReturn_t;
type LongOfDevice = unsafe extern "C" fn(nvmlDevice_t, *mut u64) -> nvmlReturn_t;
type PairOfDevice = unsafe extern "C" fn(nvmlDevice_t, *mut u32, *mut u32) -> nvmlReturn_t;
type ChosenNumber = unsafe extern "C" fn(nvmlDevice_t, u32, *mut u32) -> nvmlReturn_t;
type NumberOfSystem = unsafe extern "C" fn(*mut i32) -> nvmlReturn_t;

#[derive(Debug, thiserror::Error)]
pub enum NvmlError {
    #[error(
        "NVIDIA-SMI couldn't find {NAME} library in your system. hint: `farpool run -n 1 -- nvidia-smi` has Farpool's ({0})"
    )]
    NotFound(libloading::Error),
    #[error("{NAME} lacks {symbol}, which every version since 2020 has: {reason}")]
    Symbol { symbol: &'static str, reason: libloading::Error },
    #[error("{}", failed(*.code, .call, .meaning))]
    Call { call: &'static str, code: nvmlReturn_t, meaning: String },
    #[error("No devices were found for `{wanted}`; this session has {count}")]
    NoSuchGpu { wanted: String, count: usize },
}

fn failed(code: nvmlReturn_t, call: &str, meaning: &str) -> String {
    if code == nvmlReturn_t::DRIVER_NOT_LOADED {
        return "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver: this process has no GPU.\n\
                hint: start it in a session, `farpool run -n 1 -- nvidia-smi`; FARPOOL_LOG=stderr says more"
            .to_owned();
    }
    format!("{call} failed: {meaning} (code {})", code.0)
}

impl NvmlError {
    /// As nvidia-smi's manual lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 12,
            Self::Symbol { .. } => 13,
            Self::NoSuchGpu { .. } => 6,
            Self::Call { code, .. } => u8::try_from(code.0).unwrap_or(255),
        }
    }
}

/// NVML, initialised for as long as this lives.
pub struct Nvml {
    library: Library,
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if let Some(shutdown) = self.symbol::<PFN_nvmlShutdown>("nvmlShutdown") {
            // SAFETY: the signature is the description's.
            unsafe { shutdown() };
        }
    }
}

impl Nvml {
    pub fn load() -> Result<Self, NvmlError> {
        // Beside this program lies Farpool's, for sessions whose loader path somebody has taken away.
        let own = std::env::current_exe().ok().and_then(|path| std::fs::canonicalize(path).ok());
        let beside = own.and_then(|path| Some(path.parent()?.parent()?.join("lib/shim").join(NAME)));
        // SAFETY: loading NVML runs its initialisers, as in any program that uses it.
        let library = unsafe {
            Library::new(NAME).or_else(|error| match beside.filter(|path| path.exists()) {
                Some(path) => Library::new(path),
                None => Err(error),
            })
        };
        let nvml = Self { library: library.map_err(NvmlError::NotFound)? };
        let init = nvml.needed::<PFN_nvmlInit_v2>("nvmlInit_v2")?;
        // SAFETY: the signature is the description's.
        nvml.check("nvmlInit_v2", unsafe { init() })?;
        Ok(nvml)
    }

    pub fn devices(&self) -> Result<Vec<nvmlDevice_t>, NvmlError> {
        let count_of = self.needed::<PFN_nvmlDeviceGetCount_v2>("nvmlDeviceGetCount_v2")?;
        let handle_of = self.needed::<PFN_nvmlDeviceGetHandleByIndex_v2>("nvmlDeviceGetHandleByIndex_v2")?;
        let mut count = 0;
        // SAFETY: the signature is the description's, and the place a local.
        self.check("nvmlDeviceGetCount_v2", unsafe { count_of(&raw mut count) })?;
        let mut devices = Vec::new();
        for index in 0..count {
            let mut device = nvmlDevice_t::NULL;
            // SAFETY: as above.
            self.check("nvmlDeviceGetHandleByIndex_v2", unsafe { handle_of(index, &raw mut device) })?;
            devices.push(device);
        }
        Ok(devices)
    }

    /// A text about all GPUs.
    pub fn system_text(&self, symbol: &str) -> Option<String> {
        let call = self.symbol::<TextOfSystem>(symbol)?;
        // SAFETY: calls of this name take a buffer and its length.
        text(|buffer, length| unsafe { call(buffer, length) })
    }

    /// A number about all GPUs.
    pub fn system_number(&self, symbol: &str) -> Option<i32> {
        let call = self.symbol::<NumberOfSystem>(symbol)?;
        let mut value = 0;
        // SAFETY: calls of this name take a place for a number.
        told(unsafe { call(&raw mut value) }).map(|()| value)
    }

    /// A text about a GPU.
    pub fn text(&self, symbol: &str, device: nvmlDevice_t) -> Option<String> {
        let call = self.symbol::<TextOfDevice>(symbol)?;
        // SAFETY: calls of this name take a device, a buffer and its length.
        text(|buffer, length| unsafe { call(device, buffer, length) })
    }

    /// A number about a GPU.
    pub fn number(&self, symbol: &str, device: nvmlDevice_t) -> Option<u32> {
        let call = self.symbol::<NumberOfDevice>(symbol)?;
        let mut value = 0;
        // SAFETY: calls of this name take a device and a place for 32 bits.
        told(unsafe { call(device, &raw mut value) }).map(|()| value)
    }

    /// A long number about a GPU.
    pub fn long(&self, symbol: &str, device: nvmlDevice_t) -> Option<u64> {
        let call = self.symbol::<LongOfDevice>(symbol)?;
        let mut value = 0;
        // SAFETY: calls of this name take a device and a place for 64 bits.
        told(unsafe { call(device, &raw mut value) }).map(|()| value)
    }

    /// Two numbers about a GPU.
    pub fn pair(&self, symbol: &str, device: nvmlDevice_t) -> Option<(u32, u32)> {
        let call = self.symbol::<PairOfDevice>(symbol)?;
        let (mut first, mut second) = (0, 0);
        // SAFETY: calls of this name take a device and two places for 32 bits.
        told(unsafe { call(device, &raw mut first, &raw mut second) }).map(|()| (first, second))
    }

    /// The number about a GPU that `which` chooses: a clock, a sensor.
    pub fn chosen(&self, symbol: &str, device: nvmlDevice_t, which: u32) -> Option<u32> {
        let call = self.symbol::<ChosenNumber>(symbol)?;
        let mut value = 0;
        // SAFETY: calls of this name take a device, a number and a place for 32 bits.
        told(unsafe { call(device, which, &raw mut value) }).map(|()| value)
    }

    pub fn memory(&self, device: nvmlDevice_t) -> Option<nvmlMemory_v2_t> {
        /// Size and version, as NVML's macro makes it.
        const VERSION: u32 = 40 | 2 << 24;
        let call = self.symbol::<PFN_nvmlDeviceGetMemoryInfo_v2>("nvmlDeviceGetMemoryInfo_v2")?;
        let mut memory = nvmlMemory_v2_t { version: VERSION, total: 0, reserved: 0, free: 0, used: 0 };
        // SAFETY: the signature is the description's, and the place a local.
        told(unsafe { call(device, &raw mut memory) }).map(|()| memory)
    }

    pub fn utilization(&self, device: nvmlDevice_t) -> Option<nvmlUtilization_t> {
        let call = self.symbol::<PFN_nvmlDeviceGetUtilizationRates>("nvmlDeviceGetUtilizationRates")?;
        let mut value = nvmlUtilization_t { gpu: 0, memory: 0 };
        // SAFETY: as above.
        told(unsafe { call(device, &raw mut value) }).map(|()| value)
    }

    pub fn pci(&self, device: nvmlDevice_t) -> Option<nvmlPciInfo_t> {
        let call = self.symbol::<PFN_nvmlDeviceGetPciInfo_v3>("nvmlDeviceGetPciInfo_v3")?;
        let mut value = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        // SAFETY: as above.
        told(unsafe { call(device, &raw mut value) }).map(|()| value)
    }

    /// ECC errors since the driver was loaded: `kind` 0 corrected, 1 uncorrected.
    pub fn ecc_errors(&self, device: nvmlDevice_t, kind: i32) -> Option<u64> {
        let call = self.symbol::<PFN_nvmlDeviceGetTotalEccErrors>("nvmlDeviceGetTotalEccErrors")?;
        let mut value = 0;
        // SAFETY: as above.
        told(unsafe { call(device, kind, nvml::NVML_VOLATILE_ECC, &raw mut value) }).map(|()| value)
    }

    pub fn processes(&self, device: nvmlDevice_t) -> Vec<nvmlProcessInfo_t> {
        const MOST: usize = 4096;
        let name = "nvmlDeviceGetComputeRunningProcesses_v3";
        let Some(call) = self.symbol::<PFN_nvmlDeviceGetComputeRunningProcesses_v3>(name) else {
            return Vec::new();
        };
        let nothing = nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
        let mut list = vec![nothing; MOST];
        let mut count = u32::try_from(MOST).unwrap_or(0);
        // SAFETY: the array has `count` elements.
        if told(unsafe { call(device, &raw mut count, list.as_mut_ptr()) }).is_none() {
            return Vec::new();
        }
        list.truncate(usize::try_from(count).unwrap_or(0));
        list
    }

    pub fn process_name(&self, pid: u32) -> Option<String> {
        let call = self.symbol::<PFN_nvmlSystemGetProcessName>("nvmlSystemGetProcessName")?;
        // SAFETY: the signature is the description's.
        text(|buffer, length| unsafe { call(pid, buffer, length) })
    }

    fn check(&self, call: &'static str, code: nvmlReturn_t) -> Result<(), NvmlError> {
        if code == nvmlReturn_t::SUCCESS {
            return Ok(());
        }
        let meaning = match self.symbol::<PFN_nvmlErrorString>("nvmlErrorString") {
            // SAFETY: the signature is the description's; the text is the library's and stays.
            Some(describe) => unsafe { CStr::from_ptr(describe(code)) }.to_string_lossy().into_owned(),
            None => "unknown error".to_owned(),
        };
        Err(NvmlError::Call { call, code, meaning })
    }

    fn needed<T: Copy>(&self, symbol: &'static str) -> Result<T, NvmlError> {
        let name = CString::new(symbol).unwrap_or_default();
        // SAFETY: callers name the signature that NVML documents for the symbol.
        let found = unsafe { self.library.get::<T>(name.as_bytes_with_nul()) };
        found.map(|found| *found).map_err(|reason| NvmlError::Symbol { symbol, reason })
    }

    /// A call that an older NVML may lack.
    fn symbol<T: Copy>(&self, symbol: &str) -> Option<T> {
        let name = CString::new(symbol).ok()?;
        // SAFETY: callers name the signature that NVML documents for the symbol.
        unsafe { self.library.get::<T>(name.as_bytes_with_nul()) }.ok().map(|found| *found)
    }
}

fn told(code: nvmlReturn_t) -> Option<()> {
    (code == nvmlReturn_t::SUCCESS).then_some(())
}

fn text(call: impl FnOnce(*mut c_char, u32) -> nvmlReturn_t) -> Option<String> {
    let mut buffer = [0_u8; TEXT_BYTES];
    told(call(buffer.as_mut_ptr().cast(), u32::try_from(TEXT_BYTES).unwrap_or(0)))?;
    let text = CStr::from_bytes_until_nul(&buffer).ok()?;
    Some(text.to_string_lossy().into_owned())
}
