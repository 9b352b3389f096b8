//! Functions that the device runtime provides: `vprintf`, `malloc`, `free`, `__assertfail`.

use super::printf;
use crate::error::FaultKind;
use crate::memory::{LOCAL, Memory, Trouble};
use crate::program::{Builtin, CallSite};

pub(super) fn call(
    function: Builtin,
    site: &CallSite,
    local_base: usize,
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    let place = |offset: u32| (local_base + offset as usize) as u64;
    let argument = |memory: &mut Memory<'_, '_>, index: usize| -> Result<u64, Trouble> {
        let piece = site.arguments.get(index).ok_or_else(|| Box::new(FaultKind::IllegalInstruction))?;
        if piece.size == 4 {
            return memory.read::<LOCAL, u32, 1>(place(piece.offset)).map(|[word]| u64::from(word));
        }
        memory.read::<LOCAL, u64, 1>(place(piece.offset)).map(|[word]| word)
    };
    let result = match function {
        Builtin::Printf => {
            let format = argument(memory, 0)?;
            let arguments = argument(memory, 1)?;
            let format = memory.text(format)?;
            let (text, count) = printf::format(&format, arguments, memory)?;
            memory.global.device.printf(&text);
            count
        }
        Builtin::Malloc => {
            let size = argument(memory, 0)?;
            memory.global.device.malloc(size)
        }
        Builtin::Free => {
            let address = argument(memory, 0)?;
            if address != 0 {
                if !memory.global.device.free(address) {
                    let nearest = memory.global.device.nearest(address);
                    return Err(Box::new(FaultKind::IllegalAddress {
                        address,
                        size: 1,
                        write: true,
                        space: "global",
                        nearest,
                    }));
                }
                memory.global.forget();
            }
            0
        }
        Builtin::AssertFail => {
            let addresses = [argument(memory, 0)?, argument(memory, 1)?, argument(memory, 3)?];
            let line = argument(memory, 2)? as u32;
            let [message, file, function] = addresses.map(|address| {
                memory
                    .text(address)
                    .map(|text| String::from_utf8_lossy(&text).into_owned())
                    .unwrap_or_default()
            });
            return Err(Box::new(FaultKind::Assert { message, file, line, function }));
        }
    };
    match site.results.first() {
        Some(piece) if piece.size == 4 => memory.write::<LOCAL, u32, 1>(place(piece.offset), [result as u32]),
        Some(piece) => memory.write::<LOCAL, u64, 1>(place(piece.offset), [result]),
        None => Ok(()),
    }
}
