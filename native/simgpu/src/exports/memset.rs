//! Filling memory.

use cuda_abi::{CUdeviceptr, CUstream};

use crate::copy::{Value, fill};
use crate::guard::exports;
use crate::stream::stream;

exports! {
    fn cuMemsetD8_v2(dstDevice: CUdeviceptr, uc: u8, N: usize) {
        fill(&stream(CUstream::NULL)?, dstDevice, 0, Value::U8(uc), (N as u64, 1), true)
    }

    fn cuMemsetD16_v2(dstDevice: CUdeviceptr, us: u16, N: usize) {
        fill(&stream(CUstream::NULL)?, dstDevice, 0, Value::U16(us), (N as u64, 1), true)
    }

    fn cuMemsetD32_v2(dstDevice: CUdeviceptr, ui: u32, N: usize) {
        fill(&stream(CUstream::NULL)?, dstDevice, 0, Value::U32(ui), (N as u64, 1), true)
    }

    fn cuMemsetD2D8_v2(dstDevice: CUdeviceptr, dstPitch: usize, uc: u8, Width: usize, Height: usize) {
        let extent = (Width as u64, Height as u64);
        fill(&stream(CUstream::NULL)?, dstDevice, dstPitch as u64, Value::U8(uc), extent, true)
    }

    fn cuMemsetD2D16_v2(dstDevice: CUdeviceptr, dstPitch: usize, us: u16, Width: usize, Height: usize) {
        let extent = (Width as u64, Height as u64);
        fill(&stream(CUstream::NULL)?, dstDevice, dstPitch as u64, Value::U16(us), extent, true)
    }

    fn cuMemsetD2D32_v2(dstDevice: CUdeviceptr, dstPitch: usize, ui: u32, Width: usize, Height: usize) {
        let extent = (Width as u64, Height as u64);
        fill(&stream(CUstream::NULL)?, dstDevice, dstPitch as u64, Value::U32(ui), extent, true)
    }

    fn cuMemsetD8Async(dstDevice: CUdeviceptr, uc: u8, N: usize, hStream: CUstream) {
        fill(&stream(hStream)?, dstDevice, 0, Value::U8(uc), (N as u64, 1), false)
    }

    fn cuMemsetD16Async(dstDevice: CUdeviceptr, us: u16, N: usize, hStream: CUstream) {
        fill(&stream(hStream)?, dstDevice, 0, Value::U16(us), (N as u64, 1), false)
    }

    fn cuMemsetD32Async(dstDevice: CUdeviceptr, ui: u32, N: usize, hStream: CUstream) {
        fill(&stream(hStream)?, dstDevice, 0, Value::U32(ui), (N as u64, 1), false)
    }

    fn cuMemsetD2D8Async(
        dstDevice: CUdeviceptr, dstPitch: usize, uc: u8, Width: usize, Height: usize, hStream: CUstream,
    ) {
        let extent = (Width as u64, Height as u64);
        fill(&stream(hStream)?, dstDevice, dstPitch as u64, Value::U8(uc), extent, false)
    }

    fn cuMemsetD2D16Async(
        dstDevice: CUdeviceptr, dstPitch: usize, us: u16, Width: usize, Height: usize, hStream: CUstream,
    ) {
        let extent = (Width as u64, Height as u64);
        fill(&stream(hStream)?, dstDevice, dstPitch as u64, Value::U16(us), extent, false)
    }

    fn cuMemsetD2D32Async(
        dstDevice: CUdeviceptr, dstPitch: usize, ui: u32, Width: usize, Height: usize, hStream: CUstream,
    ) {
        let extent = (Width as u64, Height as u64);
        fill(&stream(hStream)?, dstDevice, dstPitch as u64, Value::U32(ui), extent, false)
    }
}
