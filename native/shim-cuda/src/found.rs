//! What a process knows of its GPUs from `cuInit` on. With `farpool run` that is when it connects; with a client service
//! it is before there is a GPU, and stays as it is when there is one.

use wire::handshake::DeviceSnapshot;

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
    /// How many GPUs the session has, those that the program does not see too.
    pub session_gpus: usize,
    /// The service whose socket this is lets the process into its session when it first needs a GPU.
    pub service: Option<String>,
}

impl Found {
    /// `driver_version` is the server's, and capped.
    pub fn new(driver_version: i32, snapshots: Vec<DeviceSnapshot>, service: Option<String>) -> Found {
        Found {
            driver_version: driver_version.min(crate::connect::SHIM_DRIVER_VERSION),
            session_gpus: snapshots.len(),
            devices: Devices::new(snapshots),
            contexts: Contexts::default(),
            service,
        }
    }
}
