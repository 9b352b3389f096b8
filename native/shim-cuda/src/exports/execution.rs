//! Functions and launches.

use std::ffi::{c_char, c_int, c_uint, c_void};

use cuda_abi::{
    CUfunction, CUfunction_attribute, CUhostFn, CUlaunchConfig, CUmodule, CUresult, CUstream,
    CUstreamCallback,
};
use wire::cuda::{self, LaunchAttribute};

use crate::callback::{self, Action};
use crate::capture;
use crate::client::Client;
use crate::convert::{opaque, out};
use crate::entry::Answer;
use crate::exports::library::parameter_info;
use crate::graph;
use crate::graph::action::HostCall;
use crate::launch::{self, Geometry, code_of};
use crate::{prepared, stream};

exports! {
    fn cuFuncGetAttribute(pi: *mut c_int, attrib: CUfunction_attribute, hfunc: CUfunction) enter_local |client| {
        let place = out(pi)?;
        *place = code_of(client, hfunc)?.1.attribute(attrib).ok_or(CUresult::INVALID_VALUE)?;
        Ok(())
    }

    fn cuFuncGetModule(hmod: *mut CUmodule, hfunc: CUfunction) enter_local |client| {
        let place = out(hmod)?;
        *place = opaque(code_of(client, hfunc)?.1.module.ok_or(CUresult::INVALID_HANDLE)?);
        Ok(())
    }

    fn cuFuncGetName(name: *mut *const c_char, hfunc: CUfunction) enter_local |client| {
        let place = out(name)?;
        *place = code_of(client, hfunc)?.1.name.as_ptr();
        Ok(())
    }

    fn cuFuncGetParamInfo(
        func: CUfunction,
        paramIndex: usize,
        paramOffset: *mut usize,
        paramSize: *mut usize,
    ) enter_local |client| {
        parameter_info(&code_of(client, func)?.1, paramIndex, paramOffset, paramSize)
    }

    fn cuLaunchKernel(
        f: CUfunction,
        gridDimX: c_uint,
        gridDimY: c_uint,
        gridDimZ: c_uint,
        blockDimX: c_uint,
        blockDimY: c_uint,
        blockDimZ: c_uint,
        sharedMemBytes: c_uint,
        hStream: CUstream,
        kernelParams: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) enter |client| {
        let geometry = Geometry {
            grid: [gridDimX, gridDimY, gridDimZ],
            block: [blockDimX, blockDimY, blockDimZ],
            shared_bytes: sharedMemBytes,
        };
        launch_kernel(client, f, geometry, hStream, kernelParams, extra)
    }

    fn cuLaunchHostFunc(hStream: CUstream, function: CUhostFn, userData: *mut c_void) enter |client| {
        let function = function.ok_or(CUresult::INVALID_VALUE)?;
        let stream = stream::find(client, hStream.0 as u64)?;
        let call = HostCall { function, data: userData };
        if capture::record(client, stream, || Ok(graph::action::Action::Host(call)))? {
            return Ok(());
        }
        callback::ask(client, stream, Action::Host(function, userData), |token| {
            client.post(&cuda::FarpoolHostFunction { stream, token })
        })
    }

    fn cuStreamAddCallback(
        hStream: CUstream,
        callback: CUstreamCallback,
        userData: *mut c_void,
        flags: c_uint,
    ) enter |client| {
        let function = callback.filter(|_| flags == 0).ok_or(CUresult::INVALID_VALUE)?;
        let stream = stream::resolve(client, hStream.0 as u64)?;
        callback::ask(client, stream, Action::Stream(function, hStream, userData), |token| {
            client.post(&cuda::FarpoolHostFunction { stream, token })
        })
    }

    fn cuLaunchCooperativeKernel(
        f: CUfunction,
        gridDimX: c_uint,
        gridDimY: c_uint,
        gridDimZ: c_uint,
        blockDimX: c_uint,
        blockDimY: c_uint,
        blockDimZ: c_uint,
        sharedMemBytes: c_uint,
        hStream: CUstream,
        kernelParams: *mut *mut c_void,
    ) enter |client| {
        let geometry = Geometry {
            grid: [gridDimX, gridDimY, gridDimZ],
            block: [blockDimX, blockDimY, blockDimZ],
            shared_bytes: sharedMemBytes,
        };
        let (launch, _) = launch::prepare(client, f, geometry, hStream)?;
        let parameters = launch::parameters(&launch.code, kernelParams, std::ptr::null_mut())?;
        let cooperative = LaunchAttribute { id: launch::COOPERATIVE, value: [1, 0, 0, 0, 0, 0, 0, 0] };
        if launch::captured(client, &launch, geometry, vec![cooperative], &parameters)? {
            return Ok(());
        }
        // Whether all blocks fit at once only the driver knows, and CUDA says so at once: this launch waits.
        client.call(&cuda::CuLaunchCooperativeKernel {
            function: launch.function,
            grid_x: gridDimX,
            grid_y: gridDimY,
            grid_z: gridDimZ,
            block_x: blockDimX,
            block_y: blockDimY,
            block_z: blockDimZ,
            shared_bytes: sharedMemBytes,
            stream: launch.stream,
            parameters: &parameters,
        })?;
        client.launched(launch.stream)
    }

    fn cuLaunchKernelEx(
        config: *const CUlaunchConfig,
        f: CUfunction,
        kernelParams: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) enter |client| {
        let config = config.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        let geometry = Geometry {
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            shared_bytes: config.sharedMemBytes,
        };
        let attributes = launch::attributes(config)?;
        if attributes.is_empty() {
            return launch_kernel(client, f, geometry, config.hStream, kernelParams, extra);
        }
        let (launch, _) = launch::prepare(client, f, geometry, config.hStream)?;
        let parameters = launch::parameters(&launch.code, kernelParams, extra)?;
        if launch::captured(client, &launch, geometry, attributes.clone(), &parameters)? {
            return Ok(());
        }
        let request = cuda::CuLaunchKernelEx {
            function: launch.function,
            grid_x: config.gridDimX,
            grid_y: config.gridDimY,
            grid_z: config.gridDimZ,
            block_x: config.blockDimX,
            block_y: config.blockDimY,
            block_z: config.blockDimZ,
            shared_bytes: config.sharedMemBytes,
            stream: launch.stream,
            attributes,
            parameters: &parameters,
        };
        // Attributes are checked by the driver, and CUDA reports a bad one at once.
        client.call(&request)?;
        client.launched(launch.stream)
    }
}

/// A launch without attributes.
///
/// # Safety
/// As for `cuLaunchKernel`.
unsafe fn launch_kernel(
    client: &Client,
    function: CUfunction,
    geometry: Geometry,
    stream: CUstream,
    values: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    if extra.is_null()
        && !client.is_strict()
        && !client.is_blocking()
        && !client.captures.any()
        // SAFETY: the caller's promise.
        && let Some(answer) = unsafe { prepared::launch_again(client, function, geometry, stream, values) }
    {
        return answer;
    }
    let (launch, limits) = launch::prepare(client, function, geometry, stream)?;
    // SAFETY: the caller's promise.
    let parameters = unsafe { launch::parameters(&launch.code, values, extra) }?;
    if launch::captured(client, &launch, geometry, Vec::new(), &parameters)? {
        return Ok(());
    }
    client.post(&cuda::CuLaunchKernel {
        function: launch.function,
        grid_x: geometry.grid[0],
        grid_y: geometry.grid[1],
        grid_z: geometry.grid[2],
        block_x: geometry.block[0],
        block_y: geometry.block[1],
        block_z: geometry.block[2],
        shared_bytes: geometry.shared_bytes,
        stream: launch.stream,
        parameters: &parameters,
    })?;
    let on = launch.stream;
    prepared::remember(client, function, stream, launch, limits);
    client.launched(on)
}
