//! Blocks between launches: making the registers of every thread anew would cost more than a small kernel.

use std::sync::{Mutex, PoisonError};

use crate::exec::block::Block;

/// Bytes that are kept at most.
const KEPT: usize = 32 << 20;

struct Spare {
    blocks: Vec<(Block, usize)>,
    bytes: usize,
}

static SPARE: Mutex<Spare> = Mutex::new(Spare { blocks: Vec::new(), bytes: 0 });

/// A block to prepare for a launch.
pub(crate) fn take() -> Block {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((block, size)) = spare.blocks.pop() else { return Block::new() };
    spare.bytes -= size;
    block
}

/// Keeps a block for another launch, if there is room.
pub(crate) fn keep(block: Block) {
    let size = block.size();
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.bytes + size <= KEPT {
        spare.bytes += size;
        spare.blocks.push((block, size));
    }
}
