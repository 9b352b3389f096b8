//! The protocol's own records: who the client process is, and what it may know about its GPUs.

use crate::codec::{Reader, Reply, Request, Writer};
use crate::record::CallId;

/// A range of addresses, the same in the client's process and its worker's, that device memory lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// First address.
    pub start: u64,
    /// Bytes; 0 when there is none.
    pub length: u64,
}

/// Shorter windows are of no use.
pub const SHORTEST_WINDOW: u64 = 16 << 30;

/// First record of a client process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Process id on the client.
    pub pid: u32,
    /// Name of the program (without its directory).
    pub program: String,
    /// Highest CUDA driver version that the shim implements (13000 for 13.0).
    pub driver_version: i32,
    /// The window that it proposes.
    pub window: Window,
}

/// Answer to [`Hello`]: the device snapshot from which the client answers queries by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Welcome {
    /// Name of the server.
    pub server: String,
    /// CUDA driver version of the server.
    pub driver_version: i32,
    /// The GPUs of the session, in their order.
    pub devices: Vec<DeviceSnapshot>,
    /// What was agreed of the client's window.
    pub window: Window,
    /// Memory is mapped in multiples of this; 0 where the server's driver maps none.
    pub granularity: u64,
}

/// What is known about one GPU of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceSnapshot {
    /// As `cuDeviceGetName` answers.
    pub name: String,
    /// As `cuDeviceGetUuid_v2` answers.
    pub uuid: [u8; 16],
    /// Memory of this GPU of the session, in bytes: the GPU's, or the slice's.
    pub total_memory: u64,
    /// As `cuDeviceGetPCIBusId` answers.
    pub pci_bus_id: String,
    /// (attribute, value) for every attribute that the driver knows.
    pub attributes: Vec<(i32, i32)>,
    /// For each GPU of the session: whether this one can reach its memory.
    pub peers: Vec<bool>,
}

/// What the acceptor or the worker says before it closes a connection it does not want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The `CUresult` that `cuInit` answers.
    pub code: i32,
    /// The sentence for the user.
    pub reason: String,
}

/// Last record of a client process that ends in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Goodbye {
    /// Calls that the client answered by itself.
    pub local_calls: u64,
    /// Calls for which the client waited.
    pub round_trips: u64,
}

impl<'a> Request<'a> for Hello {
    const CALL: CallId = CallId::HELLO;
    type Reply = Welcome;

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u32(self.pid);
        writer.put_str(&self.program);
        writer.put_i32(self.driver_version);
        self.window.encode(writer);
    }

    fn decode(reader: &mut Reader<'a>) -> Self {
        Hello {
            pid: reader.take_u32(),
            program: reader.take_str().to_owned(),
            driver_version: reader.take_i32(),
            window: Window::decode(reader),
        }
    }
}

impl Reply for Welcome {
    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_str(&self.server);
        writer.put_i32(self.driver_version);
        writer.put_u32(u32::try_from(self.devices.len()).unwrap_or(u32::MAX));
        for device in &self.devices {
            device.encode(writer);
        }
        self.window.encode(writer);
        writer.put_u64(self.granularity);
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        let server = reader.take_str().to_owned();
        let driver_version = reader.take_i32();
        let count = reader.take_count(64);
        let devices = (0..count).map(|_| DeviceSnapshot::decode(reader)).collect();
        let window = Window::decode(reader);
        Welcome { server, driver_version, devices, window, granularity: reader.take_u64() }
    }
}

impl Window {
    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.start);
        writer.put_u64(self.length);
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        Window { start: reader.take_u64(), length: reader.take_u64() }
    }
}

impl DeviceSnapshot {
    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_str(&self.name);
        writer.put_raw(&self.uuid);
        writer.put_u64(self.total_memory);
        writer.put_str(&self.pci_bus_id);
        writer.put_u32(u32::try_from(self.attributes.len()).unwrap_or(u32::MAX));
        for (attribute, value) in &self.attributes {
            writer.put_i32(*attribute);
            writer.put_i32(*value);
        }
        writer.put_u32(u32::try_from(self.peers.len()).unwrap_or(u32::MAX));
        for peer in &self.peers {
            writer.put_u8(u8::from(*peer));
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        let name = reader.take_str().to_owned();
        let uuid = reader.take_array();
        let total_memory = reader.take_u64();
        let pci_bus_id = reader.take_str().to_owned();
        let count = reader.take_count(8);
        let attributes = (0..count).map(|_| (reader.take_i32(), reader.take_i32())).collect();
        let count = reader.take_count(1);
        let peers = (0..count).map(|_| reader.take_u8() != 0).collect();
        DeviceSnapshot { name, uuid, total_memory, pci_bus_id, attributes, peers }
    }
}

impl Refused {
    /// Appends the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_i32(self.code);
        writer.put_str(&self.reason);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Refused { code: reader.take_i32(), reason: reader.take_str().to_owned() }
    }
}

impl<'a> Request<'a> for Goodbye {
    const CALL: CallId = CallId::GOODBYE;
    type Reply = ();

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.local_calls);
        writer.put_u64(self.round_trips);
    }

    fn decode(reader: &mut Reader<'a>) -> Self {
        Goodbye { local_calls: reader.take_u64(), round_trips: reader.take_u64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Welcome {
        Welcome {
            server: "gpu-03".into(),
            driver_version: 13000,
            devices: vec![DeviceSnapshot {
                name: "GPU".into(),
                uuid: [3; 16],
                total_memory: 1 << 32,
                pci_bus_id: "0000:01:00.0".into(),
                attributes: vec![(1, 1024), (2, -1)],
                peers: vec![true, false],
            }],
            window: Window { start: 1 << 46, length: 1 << 42 },
            granularity: 2 << 20,
        }
    }

    #[test]
    fn the_snapshot_round_trips_and_no_truncation_passes() {
        let mut bytes = Vec::new();
        sample().encode(&mut Writer::new(&mut bytes));
        let mut reader = Reader::new(&bytes);
        assert_eq!(Welcome::decode(&mut reader), sample());
        assert_eq!(reader.finish(CallId::HELLO), Ok(()));
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            let _ = Welcome::decode(&mut reader);
            assert!(reader.finish(CallId::HELLO).is_err(), "{length} bytes were accepted");
        }
    }
}
