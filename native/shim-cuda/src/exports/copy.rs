//! One-dimensional copies.
//!
//! **To the device.** CUDA reads a pinned source when the stream reaches the copy. The bytes leave when the call is
//! made if nothing can change them until then: no copy under way writes there, and no host function is pending.
//! Otherwise the worker asks for them when the stream is there (a *pull*). Pageable sources are read at the call.
//!
//! **To the host.** Copies into pinned memory are not waited for: their bytes land before anything says that the
//! copy is complete. Copies into pageable memory are waited for.

use std::ffi::c_void;

use cuda_abi::{CUdeviceptr, CUresult, CUstream};
use wire::handle::Stream;
use wire::{Request, cuda};

use crate::callback::{self, Action};
use crate::capture;
use crate::client::Client;
use crate::connection::{self, Destination, Lending};
use crate::context;
use crate::entry::Answer;
use crate::rectangle::Place;
use crate::{elsewhere, servers, stream};

/// Pieces of a copy: long enough for the wire's full speed, short enough to overlap both ends.
const PIECE: usize = 4 << 20;

exports! {
    fn cuMemcpyHtoD_v2(dstDevice: CUdeviceptr, srcHost: *const c_void, ByteCount: usize) enter |client| {
        to_device(client, dstDevice, srcHost, ByteCount, None)
    }

    fn cuMemcpyHtoDAsync_v2(
        dstDevice: CUdeviceptr,
        srcHost: *const c_void,
        ByteCount: usize,
        hStream: CUstream,
    ) enter |client| {
        let stream = stream::find(client, hStream.0 as u64)?;
        to_device(client, dstDevice, srcHost, ByteCount, Some(stream))
    }

    fn cuMemcpyDtoH_v2(dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize) enter |client| {
        to_host(client, dstHost, srcDevice, ByteCount, None)
    }

    fn cuMemcpyDtoHAsync_v2(
        dstHost: *mut c_void,
        srcDevice: CUdeviceptr,
        ByteCount: usize,
        hStream: CUstream,
    ) enter |client| {
        let stream = stream::find(client, hStream.0 as u64)?;
        to_host(client, dstHost, srcDevice, ByteCount, Some(stream))
    }

    fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize) enter_here |client| {
        if let Some(answer) = elsewhere::copy(dst, src, ByteCount, None) {
            return answer;
        }
        let client = home(client, dst, src);
        servers::at(client, || by_address(client, dst, src, ByteCount, None))
    }

    fn cuMemcpyAsync(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize, hStream: CUstream) enter_here |client| {
        if let Some(answer) = elsewhere::copy(dst, src, ByteCount, Some(hStream)) {
            return answer;
        }
        let client = home(client, dst, src);
        servers::at(client, || {
            let stream = stream::find(client, hStream.0 as u64)?;
            by_address(client, dst, src, ByteCount, Some(stream))
        })
    }
}

/// The client that knows the device memory of a copy; `client` for copies within this process.
fn home(client: &'static Client, destination: u64, source: u64) -> &'static Client {
    if servers::count() == 1 {
        return client;
    }
    let of = servers::device_memory;
    of(destination).or_else(|| of(source)).map_or(client, |(client, _)| client)
}

/// Whether a copy became a node because its stream captures. Those without a stream are refused where the legacy stream
/// would wait for one that captures.
fn captured(client: &Client, stream: Option<Stream>, sides: (Place, Place), length: usize) -> Answer<bool> {
    match stream {
        Some(stream) => capture::linear_copy(client, stream, sides.0, sides.1, length),
        None => capture::synchronous(client).map(|()| false),
    }
}

/// # Safety
/// `source` has `length` readable bytes.
unsafe fn to_device(
    client: &'static Client,
    destination: u64,
    source: *const c_void,
    length: usize,
    stream: Option<Stream>,
) -> Answer {
    client.contexts.current()?;
    if length == 0 {
        return Ok(());
    }
    if source.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    client.ranges.device_range(destination, length as u64)?;
    let sides = (Place::Device(destination), Place::Host(source.cast::<u8>().cast_mut()));
    if captured(client, stream, sides, length)? {
        return Ok(());
    }
    if must_wait(client, stream, source.addr(), length) {
        match stream {
            Some(stream) if servers::is_pinned(client, source.addr() as u64, length as u64) => {
                // SAFETY: the caller's promise, which for a pinned source holds until the copy is complete.
                return unsafe { pull(client, destination, source.cast(), length, stream) };
            }
            // A copy that CUDA would make wait for earlier work: here the work is waited for.
            _ => client.call(&cuda::CuStreamSynchronize { hStream: stream.unwrap_or_default() })?,
        }
    }
    // SAFETY: the program says that `length` bytes are readable there.
    let bytes: &[u8] = unsafe { std::slice::from_raw_parts(source.cast(), length) };
    let mut address = destination;
    let connection = client.connection();
    for piece in Lending::new(connection, bytes).pieces(PIECE) {
        match stream {
            None => client.post_with_data(
                cuda::CuMemcpyHtoDV2::CALL,
                Some(Stream::default()),
                |writer| writer.put_u64(address),
                piece,
            )?,
            Some(stream) => client.post_with_data(
                cuda::CuMemcpyHtoDAsyncV2::CALL,
                Some(stream),
                |writer| {
                    writer.put_u64(address);
                    writer.put_u64(stream.0);
                },
                piece,
            )?,
        }
        address += piece.bytes().len() as u64;
    }
    if stream.is_none() {
        // CUDA waits for the legacy stream here. Nothing but a query could tell.
        connection.timelines.skipped(context::current_index()).legacy(connection::last_number());
    }
    Ok(())
}

/// Whether a copy that uses `length` bytes of this process at `address` must wait for earlier work: something under way may
/// write them, or, without a stream, CUDA waits for the legacy stream and the program could tell from what that leaves.
fn must_wait(client: &Client, stream: Option<Stream>, address: usize, length: usize) -> bool {
    let connection = client.connection();
    connection.has_callbacks()
        || match stream {
            None => connection.has_any_downloads(),
            Some(_) => connection.has_downloads(address, length),
        }
}

/// # Safety
/// `source` has `length` readable bytes until the copy is complete.
unsafe fn pull(
    client: &'static Client,
    destination: u64,
    source: *const u8,
    length: usize,
    stream: Stream,
) -> Answer {
    for offset in (0..length).step_by(PIECE) {
        let size = PIECE.min(length - offset);
        // SAFETY: `offset` stays within the program's `length` bytes.
        let piece = unsafe { source.add(offset) };
        callback::ask(client, stream, Action::Pull(piece, size), |token| {
            client.post(&cuda::FarpoolPullToDevice {
                destination: destination + offset as u64,
                size: size as u64,
                stream,
                token,
            })
        })?;
    }
    Ok(())
}

/// # Safety
/// `destination` has `length` writable bytes that nobody else uses during the call.
unsafe fn to_host(
    client: &Client,
    destination: *mut c_void,
    source: u64,
    length: usize,
    stream: Option<Stream>,
) -> Answer {
    client.contexts.current()?;
    if length == 0 {
        return Ok(());
    }
    if destination.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    client.ranges.device_range(source, length as u64)?;
    if captured(client, stream, (Place::Host(destination.cast()), Place::Device(source)), length)? {
        return Ok(());
    }
    let pieces = (0..length).step_by(PIECE).map(|offset| {
        let size = PIECE.min(length - offset);
        // SAFETY: `offset + size` stays within the program's `length` writable bytes, and the call below
        // returns only when no reply can write there any more.
        let place = unsafe { Destination::new(destination.cast::<u8>().add(offset), size) };
        (source + offset as u64, size as u64, place)
    });
    if let Some(stream) = stream
        && servers::is_pinned(client, destination.addr() as u64, length as u64)
    {
        for (source, size, place) in pieces {
            // SAFETY: pinned memory is given back only when no download is under way.
            unsafe { client.download(&cuda::CuMemcpyDtoHAsyncV2 { source, size, stream }, place)? };
        }
        return Ok(());
    }
    match stream {
        None => client
            .call_into(pieces.map(|(source, size, place)| (cuda::CuMemcpyDtoHV2 { source, size }, place))),
        Some(stream) => client.call_into(
            pieces.map(|(source, size, place)| (cuda::CuMemcpyDtoHAsyncV2 { source, size, stream }, place)),
        ),
    }
}

/// Copies by what the addresses are: device memory, or else memory of this process.
///
/// # Safety
/// Addresses that are no device memory have `length` readable or writable bytes of this process.
unsafe fn by_address(
    client: &'static Client,
    destination: u64,
    source: u64,
    length: usize,
    stream: Option<Stream>,
) -> Answer {
    let on_device = |address| client.ranges.find(address).is_some_and(|range| range.kind.is_device());
    let host = |address: u64| -> Answer<*mut c_void> {
        let address = usize::try_from(address).map_err(|_| CUresult::INVALID_VALUE)?;
        Ok(std::ptr::with_exposed_provenance_mut(address))
    };
    // SAFETY: the caller's promise, for each of the four cases.
    unsafe {
        match (on_device(destination), on_device(source)) {
            (true, false) => to_device(client, destination, host(source)?, length, stream),
            (false, true) => to_host(client, host(destination)?, source, length, stream),
            (true, true) => on_one_device(client, destination, source, length, stream),
            (false, false) => {
                client.contexts.current()?;
                if length == 0 {
                    return Ok(());
                }
                if destination == 0 || source == 0 {
                    return Err(CUresult::INVALID_VALUE);
                }
                let sides = (Place::Host(host(destination)?.cast()), Place::Host(host(source)?.cast()));
                if captured(client, stream, sides, length)? {
                    return Ok(());
                }
                let (to, from) = (host(destination)?.addr(), host(source)?.addr());
                if must_wait(client, stream, to, length) || must_wait(client, stream, from, length) {
                    client.call(&cuda::CuStreamSynchronize { hStream: stream.unwrap_or_default() })?;
                }
                // Nothing of the stream touches this memory any more, so the copy may happen now.
                std::ptr::copy(host(source)?.cast::<u8>(), host(destination)?.cast::<u8>(), length);
                Ok(())
            }
        }
    }
}

fn on_one_device(
    client: &Client,
    destination: u64,
    source: u64,
    length: usize,
    stream: Option<Stream>,
) -> Answer {
    client.ranges.device_range(destination, length as u64)?;
    client.ranges.device_range(source, length as u64)?;
    if captured(client, stream, (Place::Device(destination), Place::Device(source)), length)? {
        return Ok(());
    }
    let length = length as u64;
    match stream {
        None => client.post(&cuda::CuMemcpyDtoDV2 {
            dstDevice: destination,
            srcDevice: source,
            ByteCount: length,
        }),
        Some(stream) => client.post(&cuda::CuMemcpyDtoDAsyncV2 {
            dstDevice: destination,
            srcDevice: source,
            ByteCount: length,
            hStream: stream,
        }),
    }
}
