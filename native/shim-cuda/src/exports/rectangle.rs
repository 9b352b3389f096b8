//! Copies of two- and three-dimensional pieces of memory.

use std::ffi::c_void;

use cuda_abi::{
    CU_MEMORYTYPE_ARRAY, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_UNIFIED, CUDA_MEMCPY2D,
    CUDA_MEMCPY3D, CUdeviceptr, CUmemorytype, CUresult, CUstream,
};

use crate::capture;
use crate::client::Client;
use crate::convert::out;
use crate::entry::Answer;
use crate::rectangle::{Copy3d, Place, Side};
use crate::{servers, stream};

exports! {
    fn cuMemcpy2D_v2(pCopy: *const CUDA_MEMCPY2D) enter_here |client| {
        copy_flat(client, &*out(pCopy.cast_mut())?, None)
    }

    fn cuMemcpy2DAsync_v2(pCopy: *const CUDA_MEMCPY2D, hStream: CUstream) enter_here |client| {
        copy_flat(client, &*out(pCopy.cast_mut())?, Some(hStream))
    }

    fn cuMemcpy3D_v2(pCopy: *const CUDA_MEMCPY3D) enter_here |client| {
        copy_solid(client, &*out(pCopy.cast_mut())?, None)
    }

    fn cuMemcpy3DAsync_v2(pCopy: *const CUDA_MEMCPY3D, hStream: CUstream) enter_here |client| {
        copy_solid(client, &*out(pCopy.cast_mut())?, Some(hStream))
    }
}

fn copy_flat(client: &'static Client, copy: &CUDA_MEMCPY2D, stream: Option<CUstream>) -> Answer {
    let sides = [(copy.dstMemoryType, copy.dstDevice), (copy.srcMemoryType, copy.srcDevice)];
    at_home(client, sides, |client| run(client, stream, || flat(client, copy)))
}

fn copy_solid(client: &'static Client, copy: &CUDA_MEMCPY3D, stream: Option<CUstream>) -> Answer {
    let sides = [(copy.dstMemoryType, copy.dstDevice), (copy.srcMemoryType, copy.srcDevice)];
    at_home(client, sides, |client| run(client, stream, || solid(client, copy)))
}

/// Makes a copy in a stream, or waits for it.
fn run(client: &'static Client, stream: Option<CUstream>, copy: impl FnOnce() -> Answer<Copy3d>) -> Answer {
    match stream {
        Some(stream) => {
            let stream = stream::find(client, stream.0 as u64)?;
            copy()?.run(client, stream, true)
        }
        None => {
            capture::synchronous(client)?;
            copy()?.run(client, stream::find(client, 0)?, false)
        }
    }
}

/// Makes a copy at the server that has the device memory of its two sides.
///
/// Errors: `NOT_SUPPORTED` where two servers have it.
fn at_home(
    client: &'static Client,
    sides: [(CUmemorytype, CUdeviceptr); 2],
    copy: impl FnOnce(&'static Client) -> Answer,
) -> Answer {
    if servers::count() == 1 {
        return copy(client);
    }
    let is_device = |kind| matches!(kind, CU_MEMORYTYPE_DEVICE | CU_MEMORYTYPE_UNIFIED);
    let known = sides.iter().filter(|(kind, _)| is_device(*kind));
    let known: Vec<&Client> =
        known.filter_map(|(_, address)| servers::device_memory(*address)).map(|(client, _)| client).collect();
    if let [one, other] = known[..]
        && one.server != other.server
    {
        crate::report::once("copies of rectangles from one server to another are not supported by Farpool");
        return Err(CUresult::NOT_SUPPORTED);
    }
    let client = known.first().map_or(client, |known| servers::other(client, known.server));
    servers::at(client, || copy(client))
}

fn flat(client: &Client, copy: &CUDA_MEMCPY2D) -> Answer<Copy3d> {
    let (height, width) = (copy.Height, copy.WidthInBytes);
    Ok(Copy3d {
        source: Side {
            place: place(client, copy.srcMemoryType, copy.srcHost.cast_mut(), copy.srcDevice)?,
            pitch: if copy.srcPitch == 0 { copy.srcXInBytes + width } else { copy.srcPitch },
            height: copy.srcY + height,
            x: copy.srcXInBytes,
            y: copy.srcY,
            z: 0,
        },
        destination: Side {
            place: place(client, copy.dstMemoryType, copy.dstHost, copy.dstDevice)?,
            pitch: if copy.dstPitch == 0 { copy.dstXInBytes + width } else { copy.dstPitch },
            height: copy.dstY + height,
            x: copy.dstXInBytes,
            y: copy.dstY,
            z: 0,
        },
        width,
        height,
        depth: 1,
    })
}

pub(super) fn solid(client: &Client, copy: &CUDA_MEMCPY3D) -> Answer<Copy3d> {
    let (width, height) = (copy.WidthInBytes, copy.Height);
    Ok(Copy3d {
        source: Side {
            place: place(client, copy.srcMemoryType, copy.srcHost.cast_mut(), copy.srcDevice)?,
            pitch: if copy.srcPitch == 0 { copy.srcXInBytes + width } else { copy.srcPitch },
            height: if copy.srcHeight == 0 { copy.srcY + height } else { copy.srcHeight },
            x: copy.srcXInBytes,
            y: copy.srcY,
            z: copy.srcZ,
        },
        destination: Side {
            place: place(client, copy.dstMemoryType, copy.dstHost, copy.dstDevice)?,
            pitch: if copy.dstPitch == 0 { copy.dstXInBytes + width } else { copy.dstPitch },
            height: if copy.dstHeight == 0 { copy.dstY + height } else { copy.dstHeight },
            x: copy.dstXInBytes,
            y: copy.dstY,
            z: copy.dstZ,
        },
        width,
        height,
        depth: copy.Depth,
    })
}

fn place(client: &Client, kind: CUmemorytype, host: *mut c_void, device: CUdeviceptr) -> Answer<Place> {
    let here = |address: CUdeviceptr| -> Answer<Place> {
        let address = usize::try_from(address).map_err(|_| CUresult::INVALID_VALUE)?;
        Ok(Place::Host(std::ptr::with_exposed_provenance_mut(address)))
    };
    match kind {
        CU_MEMORYTYPE_HOST if host.is_null() => Err(CUresult::INVALID_VALUE),
        CU_MEMORYTYPE_HOST => Ok(Place::Host(host.cast())),
        CU_MEMORYTYPE_DEVICE => Ok(Place::Device(device)),
        CU_MEMORYTYPE_UNIFIED => match client.ranges.find(device) {
            Some(range) if range.kind.is_device() => Ok(Place::Device(device)),
            _ if device == 0 => Err(CUresult::INVALID_VALUE),
            _ => here(device),
        },
        CU_MEMORYTYPE_ARRAY => {
            crate::report::once("copies from and to CUDA arrays are not supported by Farpool yet");
            Err(CUresult::NOT_SUPPORTED)
        }
        _ => Err(CUresult::INVALID_VALUE),
    }
}
