//! Occupancy. Programs ask for one block size after the other: the worker answers for all usual ones at once.

use std::ffi::{c_int, c_uint};

use cuda_abi::CUfunction;
use wire::cuda;
use wire::{Reader, Reply, Request, Writer};

use crate::client::Client;
use crate::context;
use crate::convert::out;
use crate::entry::Answer;
use crate::launch::code_of;

exports! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        numBlocks: *mut c_int,
        func: CUfunction,
        blockSize: c_int,
        dynamicSMemSize: usize,
    ) enter |client| {
        let place = out(numBlocks)?;
        *place = active_blocks(client, func, blockSize, dynamicSMemSize, 0)?;
        Ok(())
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        numBlocks: *mut c_int,
        func: CUfunction,
        blockSize: c_int,
        dynamicSMemSize: usize,
        flags: c_uint,
    ) enter |client| {
        let place = out(numBlocks)?;
        *place = active_blocks(client, func, blockSize, dynamicSMemSize, flags)?;
        Ok(())
    }
}

fn active_blocks(
    client: &Client,
    function: CUfunction,
    threads: i32,
    shared: usize,
    flags: u32,
) -> Answer<i32> {
    let (function, _) = code_of(client, function)?;
    let of_size =
        |threads| cuda::FarpoolOccupancy { function, threads, dynamic_shared: shared as u64, flags };
    let question = |threads| {
        let mut bytes = Vec::new();
        of_size(threads).encode(&mut Writer::new(&mut bytes));
        (cuda::FarpoolOccupancy::CALL, context::current_index(), bytes)
    };
    let age = match client.remembered.find(&question(threads)) {
        Ok(body) => {
            client.count_local();
            return Ok(cuda::FarpoolOccupancyReply::decode(&mut Reader::new(&body)).blocks);
        }
        Err(age) => age,
    };
    let reply = client.call(&of_size(threads))?;
    let asked = cuda::BlockOccupancy { threads, blocks: reply.blocks };
    for size in reply.others.into_iter().chain([asked]) {
        let known = cuda::FarpoolOccupancyReply { blocks: size.blocks, others: Vec::new() };
        let mut body = Vec::new();
        known.encode(&mut Writer::new(&mut body));
        client.remembered.keep(question(size.threads), body, age);
    }
    Ok(reply.blocks)
}
