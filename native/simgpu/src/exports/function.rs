//! Functions and their launches.

use std::ffi::{c_char, c_void};

use cuda_abi::{
    CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState, CUlaunchConfig, CUmodule,
    CUresult, CUsharedconfig, CUstream,
};

use crate::config::log;
use crate::guard::{exports, put, put_optional};
use crate::launch::{Shape, launch};
use crate::module::{attribute, function, set_attribute};
use crate::stream::stream;
use graph::handle;

const LOADED: CUfunctionLoadingState = 1;
const ATTRIBUTE_COOPERATIVE: i32 = 2;
const ATTRIBUTE_CLUSTER: i32 = 4;
const ATTRIBUTE_PROGRAMMATIC_EVENT: i32 = 7;
const ATTRIBUTE_COMPLETION_EVENT: i32 = 12;

exports! {
    fn cuFuncGetAttribute(pi: *mut i32, attrib: CUfunction_attribute, hfunc: CUfunction) {
        let function = function(hfunc)?;
        put(pi, attribute(function.kernel()?, &function.settings, attrib)?)
    }

    fn cuFuncSetAttribute(hfunc: CUfunction, attrib: CUfunction_attribute, value: i32) {
        let function = function(hfunc)?;
        set_attribute(function.kernel()?, &function.settings, attrib, value)
    }

    fn cuFuncSetCacheConfig(hfunc: CUfunction, config: CUfunc_cache) {
        let _ = config;
        function(hfunc).map(|_| ())
    }

    fn cuFuncSetSharedMemConfig(hfunc: CUfunction, config: CUsharedconfig) {
        let _ = config;
        function(hfunc).map(|_| ())
    }

    fn cuFuncGetModule(hmod: *mut CUmodule, hfunc: CUfunction) {
        put(hmod, CUmodule(handle(&function(hfunc)?.module)))
    }

    fn cuFuncGetName(name: *mut *const c_char, hfunc: CUfunction) {
        let function = function(hfunc)?;
        put(name, function.module.code.names[function.index].as_ptr())
    }

    fn cuFuncGetParamInfo(func: CUfunction, paramIndex: usize, paramOffset: *mut usize, paramSize: *mut usize) {
        let function = function(func)?;
        let param = *function.kernel()?.params.get(paramIndex).ok_or(CUresult::INVALID_VALUE)?;
        put(paramOffset, param.offset as usize)?;
        put_optional(paramSize, param.size as usize);
        Ok(())
    }

    fn cuFuncIsLoaded(state: *mut CUfunctionLoadingState, function: CUfunction) {
        crate::module::function(function)?;
        put(state, LOADED)
    }

    fn cuFuncLoad(function: CUfunction) {
        crate::module::function(function).map(|_| ())
    }

    fn cuLaunchKernel(
        f: CUfunction, gridDimX: u32, gridDimY: u32, gridDimZ: u32, blockDimX: u32, blockDimY: u32,
        blockDimZ: u32, sharedMemBytes: u32, hStream: CUstream, kernelParams: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let stream = stream(hStream)?;
        let shape = Shape {
            grid: [gridDimX, gridDimY, gridDimZ],
            block: [blockDimX, blockDimY, blockDimZ],
            shared_bytes: sharedMemBytes,
            cooperative: false,
        };
        launch(f, &stream, shape, kernelParams, extra)
    }

    fn cuLaunchCooperativeKernel(
        f: CUfunction, gridDimX: u32, gridDimY: u32, gridDimZ: u32, blockDimX: u32, blockDimY: u32,
        blockDimZ: u32, sharedMemBytes: u32, hStream: CUstream, kernelParams: *mut *mut c_void,
    ) {
        let stream = stream(hStream)?;
        let shape = Shape {
            grid: [gridDimX, gridDimY, gridDimZ],
            block: [blockDimX, blockDimY, blockDimZ],
            shared_bytes: sharedMemBytes,
            cooperative: true,
        };
        launch(f, &stream, shape, kernelParams, std::ptr::null_mut())
    }

    fn cuLaunchKernelEx(
        config: *const CUlaunchConfig, f: CUfunction, kernelParams: *mut *mut c_void, extra: *mut *mut c_void,
    ) {
        if config.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let config = config.read();
        let stream = stream(config.hStream)?;
        let mut cooperative = false;
        for index in 0..config.numAttrs as usize {
            if config.attrs.is_null() {
                return Err(CUresult::INVALID_VALUE);
            }
            let given = config.attrs.add(index).read();
            match given.id {
                ATTRIBUTE_COOPERATIVE => cooperative = given.value.bytes[0] as u32 != 0,
                // The three dimensions of a cluster are the value's first three numbers; one block is no cluster.
                ATTRIBUTE_CLUSTER if given.value.bytes[0] != 0x1_0000_0001 || given.value.bytes[1] as u32 != 1 => {
                    let [sides, z, ..] = given.value.bytes;
                    log(|| {
                        let (x, y, z) = (sides as u32, sides >> 32, z as u32);
                        format!("cuLaunchKernelEx: clusters of {x} x {y} x {z} blocks are not supported")
                    });
                    return Err(CUresult::NOT_SUPPORTED);
                }
                ATTRIBUTE_PROGRAMMATIC_EVENT | ATTRIBUTE_COMPLETION_EVENT => return Err(CUresult::NOT_SUPPORTED),
                _ => {}
            }
        }
        let shape = Shape {
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            shared_bytes: config.sharedMemBytes,
            cooperative,
        };
        launch(f, &stream, shape, kernelParams, extra)
    }
}
