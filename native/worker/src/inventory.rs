//! `farpool-worker inventory`: what GPUs a driver offers, as JSON (ARCHITECTURE 4.8).

use std::path::Path;

use anyhow::{Context as _, anyhow};
use cuda_abi::CUresult;
use serde::Serialize;
use wire::handshake::DeviceSnapshot;

use crate::snapshot;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inventory {
    driver_version: i32,
    simulated: bool,
    gpus: Vec<Gpu>,
    /// What a worker's sandbox can consist of on this machine.
    sandbox: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gpu {
    index: i32,
    uuid: String,
    name: String,
    memory_total_bytes: u64,
    memory_used_bytes: Option<u64>,
    compute_capability: String,
    pci_bus_id: String,
    multiprocessors: i32,
    /// What a client's programs are told before they have a GPU: (`CUdevice_attribute`, value).
    attributes: Vec<(i32, i32)>,
}

/// The inventory behind the driver at `path`, as one line of JSON.
pub fn collect(path: &Path) -> anyhow::Result<String> {
    let driver = crate::worker::load(path)?;
    crate::worker::initialise(&driver)?;
    let count = snapshot::device_count(&driver).map_err(failed("cuDeviceGetCount"))?;
    anyhow::ensure!(count > 0, "{} offers no GPU", path.display());
    let nvml = if driver.simulated().is_some() { None } else { driver::Nvml::load(path) };
    let mut gpus = Vec::new();
    for index in 0..count {
        let device = snapshot::describe(&driver, index).map_err(failed("the description of a device"))?;
        let uuid = uuid_text(&device.uuid);
        let memory_used_bytes = match driver.simulated() {
            Some(simulated) => simulated.memory_used(index),
            None => nvml.as_ref().and_then(|nvml| nvml.memory_used(&uuid)),
        };
        gpus.push(Gpu {
            index,
            memory_total_bytes: device.total_memory,
            memory_used_bytes,
            compute_capability: format!(
                "{}.{}",
                attribute(&device, cuda_abi::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                attribute(&device, cuda_abi::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
            ),
            multiprocessors: attribute(&device, cuda_abi::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            pci_bus_id: device.pci_bus_id,
            attributes: device.attributes,
            name: device.name,
            uuid,
        });
    }
    let inventory = Inventory {
        driver_version: snapshot::driver_version(&driver).map_err(failed("cuDriverGetVersion"))?,
        simulated: driver.simulated().is_some(),
        gpus,
        sandbox: crate::sandbox::offered(),
    };
    serde_json::to_string(&inventory).context("write the inventory")
}

fn failed(what: &'static str) -> impl Fn(CUresult) -> anyhow::Error {
    move |code| anyhow!("{what} answered {code}")
}

fn attribute(device: &DeviceSnapshot, number: i32) -> i32 {
    device.attributes.iter().find(|(known, _)| *known == number).map_or(0, |(_, value)| *value)
}

/// `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, as NVIDIA spells it.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    format!("GPU-{}", cuda_abi::export_tables::uuid_text(uuid))
}
