//! Memory of the program that receives the data of a reply.

use std::io;

/// Caller memory that receives the data of a reply: rows of `length` bytes, `pitch` bytes apart.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    pointer: *mut u8,
    length: usize,
    rows: usize,
    pitch: usize,
}

// SAFETY: the thread that waits for the reply owns the memory and stays in `Connection::wait` until the
// reply is complete or the connection is lost; whichever thread reads the socket writes it meanwhile.
unsafe impl Send for Destination {}

impl Destination {
    /// Memory of `length` bytes at `pointer`.
    ///
    /// # Safety
    /// The memory must be writable, and used by nobody else, until the call that it is given to returns.
    pub unsafe fn new(pointer: *mut u8, length: usize) -> Self {
        Self { pointer, length, rows: 1, pitch: length }
    }

    /// `rows` rows of `length` bytes, each `pitch` bytes behind the one before; the first at `pointer`.
    ///
    /// # Safety
    /// As for [`Destination::new`], for every row.
    pub unsafe fn with_rows(pointer: *mut u8, length: usize, rows: usize, pitch: usize) -> Self {
        Self { pointer, length, rows, pitch }
    }

    /// Address of its first byte.
    pub fn start(&self) -> usize {
        self.pointer.addr()
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.length * self.rows
    }

    /// Has `read` fill it, row by row.
    ///
    /// # Safety
    /// The promises that it was made with still hold.
    pub unsafe fn fill(self, mut read: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        for row in 0..self.rows {
            // SAFETY: the caller's promise: the row is writable memory that nobody else uses.
            let memory =
                unsafe { std::slice::from_raw_parts_mut(self.pointer.add(row * self.pitch), self.length) };
            read(memory)?;
        }
        Ok(())
    }

    /// Where its last row ends, counted from its first byte.
    pub fn extent(&self) -> usize {
        self.rows.saturating_sub(1) * self.pitch + self.length
    }
}
