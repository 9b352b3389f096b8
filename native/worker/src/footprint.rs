//! What this process takes of a GPU's memory, as the driver's side sees it. The cost of a context is the
//! difference that making it makes.

use driver::{Driver, Nvml};

use crate::snapshot;

/// Asks for the memory of this process; see the module's text.
#[derive(Debug)]
pub struct Footprint {
    nvml: Option<Nvml>,
}

impl Footprint {
    /// A footprint on the GPUs of `driver`.
    pub fn new(driver: &Driver) -> Footprint {
        Footprint { nvml: if driver.simulated().is_some() { None } else { Nvml::load(driver.path()) } }
    }

    /// Bytes that this process uses on device `ordinal`. Where nobody tells per process, all that is used on the
    /// GPU: then a neighbour that allocates in the same moment blurs the cost of a context.
    pub fn on(&self, driver: &Driver, ordinal: i32) -> u64 {
        if let Some(simulated) = driver.simulated() {
            return simulated.memory_used_by_this_process(ordinal).unwrap_or(0);
        }
        let Some(nvml) = &self.nvml else { return 0 };
        let Ok(device) = snapshot::describe(driver, ordinal) else { return 0 };
        let uuid = crate::inventory::uuid_text(&device.uuid);
        nvml.memory_used_by(&uuid, std::process::id()).or_else(|| nvml.memory_used(&uuid)).unwrap_or(0)
    }
}
