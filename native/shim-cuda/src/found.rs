//! What a process knows of its GPUs from `cuInit` on. With `farpool run` that is when it connects; with a client service
//! it is before there is a GPU, and stays as it is when there is one.

use crate::context::Contexts;
use crate::device::Devices;

/// The GPUs of this process, with or without a worker.
#[derive(Debug)]
pub struct Found {
    /// What `cuDriverGetVersion` answers.
    pub driver_version: i32,
    /// The GPUs that the program sees.
    pub devices: Devices,
    /// Contexts: that there is none yet needs no worker.
    pub contexts: Contexts,
    /// The service whose socket this is lets the process into its session when it first needs a GPU.
    pub service: Option<String>,
}

impl Found {
    /// `driver_version` is the servers' lowest, and capped.
    pub fn new(driver_version: i32, devices: Devices, service: Option<String>) -> Found {
        Found {
            driver_version: driver_version.min(crate::connect::SHIM_DRIVER_VERSION),
            contexts: Contexts::of(&devices),
            devices,
            service,
        }
    }
}
