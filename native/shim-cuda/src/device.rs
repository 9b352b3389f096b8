//! The GPUs of the session as this program sees them, answered from the snapshot taken at `cuInit`.

use std::collections::BTreeSet;

use cuda_abi::CUresult;
use wire::handshake::DeviceSnapshot;

use crate::entry::Answer;

/// One GPU.
#[derive(Debug)]
pub struct Device {
    /// Which of the session's servers it is on.
    pub server: usize,
    /// Its ordinal in the session's part on that server: what the worker calls it.
    pub session_ordinal: i32,
    /// What is known about it.
    pub snapshot: DeviceSnapshot,
}

/// The GPUs in the order in which this program counts them (`CUDA_VISIBLE_DEVICES`).
#[derive(Debug)]
pub struct Devices {
    visible: Vec<Device>,
    /// How many the session has, those that the program does not see too.
    pub of_session: usize,
}

impl Devices {
    /// The GPUs of a session, those of each server after those of the one before, filtered as `CUDA_VISIBLE_DEVICES` says: the
    /// driver library's duty, so ours.
    pub fn new(servers: Vec<Vec<DeviceSnapshot>>) -> Devices {
        let places: Vec<(usize, usize)> =
            (0..).zip(&servers).flat_map(|(server, of)| (0..of.len()).map(move |at| (server, at))).collect();
        let snapshots: Vec<DeviceSnapshot> = servers.into_iter().flatten().collect();
        let wanted = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let order = match &wanted {
            Some(list) => visible_order(list, &snapshots),
            None => (0..snapshots.len()).collect(),
        };
        let mut all: Vec<Option<DeviceSnapshot>> = snapshots.into_iter().map(Some).collect();
        let visible = order
            .into_iter()
            .filter_map(|index| {
                let snapshot = all.get_mut(index)?.take()?;
                let (server, ordinal) = *places.get(index)?;
                Some(Device { server, session_ordinal: i32::try_from(ordinal).ok()?, snapshot })
            })
            .collect();
        Devices { visible, of_session: places.len() }
    }

    /// The servers that they are on, in order.
    pub fn servers(&self) -> Vec<usize> {
        let servers: BTreeSet<usize> = self.visible.iter().map(|device| device.server).collect();
        servers.into_iter().collect()
    }

    /// Leaves those servers out that no device is on: the others are numbered anew, in their order. Answers which stay.
    pub fn leave_servers_out(&mut self) -> Vec<usize> {
        let stay = self.servers();
        for device in &mut self.visible {
            device.server = stay.iter().position(|server| *server == device.server).unwrap_or(0);
        }
        stay
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.visible.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.visible.iter()
    }

    /// Position of the device that a program calls `device`.
    pub fn index(&self, device: i32) -> Answer<usize> {
        usize::try_from(device)
            .ok()
            .filter(|index| *index < self.visible.len())
            .ok_or(CUresult::INVALID_DEVICE)
    }

    /// The device that a program calls `device`.
    pub fn get(&self, device: i32) -> Answer<&Device> {
        Ok(&self.visible[self.index(device)?])
    }
}

impl Device {
    /// An attribute's value; `None` when the server's driver does not know it.
    pub fn attribute(&self, attribute: i32) -> Option<i32> {
        let known = &self.snapshot.attributes;
        known.iter().find(|(number, _)| *number == attribute).map(|(_, value)| *value)
    }
}

/// CUDA's rule: entries are ordinals or prefixes of `GPU-<uuid>`; the list ends at the first entry that names
/// no device; a device named twice empties the list.
fn visible_order(list: &str, snapshots: &[DeviceSnapshot]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let found = match entry.parse::<usize>() {
            Ok(ordinal) => (ordinal < snapshots.len()).then_some(ordinal),
            Err(_) if entry.starts_with("GPU-") => {
                let mut matching = (0..snapshots.len())
                    .filter(|index| uuid_text(&snapshots[*index].uuid).starts_with(entry));
                match (matching.next(), matching.next()) {
                    (Some(only), None) => Some(only),
                    _ => None,
                }
            }
            Err(_) => None,
        };
        match found {
            Some(index) if order.contains(&index) => return Vec::new(),
            Some(index) => order.push(index),
            None => break,
        }
    }
    order
}

/// `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    format!("GPU-{}", cuda_abi::export_tables::uuid_text(uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<DeviceSnapshot> {
        (1..=3u8).map(|byte| DeviceSnapshot { uuid: [byte; 16], ..DeviceSnapshot::default() }).collect()
    }

    #[test]
    fn visible_devices_follow_cudas_rule() {
        let order = |list: &str| visible_order(list, &three());
        assert_eq!(order("2,0"), [2, 0]);
        assert_eq!(order("1,7,0"), [1], "the list ends at the first unknown device");
        assert_eq!(order(""), Vec::<usize>::new());
        assert_eq!(order("-1"), Vec::<usize>::new());
        assert_eq!(order("0,0"), Vec::<usize>::new(), "a repeated device empties the list");
        assert_eq!(order("GPU-0202,0"), [1, 0]);
        assert_eq!(order("GPU-0"), Vec::<usize>::new(), "an ambiguous prefix names no device");
    }

    #[test]
    fn devices_of_several_servers_are_counted_server_by_server() {
        let mut devices = Devices::new(vec![three(), three()]);
        assert_eq!((devices.count(), devices.servers()), (6, vec![0, 1]));
        let place = |device: &Device| (device.server, device.session_ordinal);
        assert_eq!(place(devices.get(4).expect("the fifth")), (1, 1));
        devices.visible.drain(..3);
        assert_eq!(devices.leave_servers_out(), [1]);
        assert_eq!(place(devices.get(1).expect("the fifth, now the second")), (0, 1));
    }

    #[test]
    fn identifiers_are_spelled_as_nvidia_spells_them() {
        assert_eq!(uuid_text(&[0xab; 16]), "GPU-abababab-abab-abab-abab-abababababab");
    }
}
