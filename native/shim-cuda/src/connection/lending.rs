//! Data of a copy that leave from where the program has them.

use wire::bulk::BULK_FROM;

use super::Connection;

/// The data of a record, and how long they stay.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// They may change when the sending of the record is over.
    Passing(&'a [u8]),
    /// They stay until the [`Lending`] ends that answered them.
    Staying(Piece<'a>),
}

/// A piece of what a [`Lending`] lends.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a>(&'a [u8]);

/// The time of a call in which the connection may keep the call's data as they are. At its end what it still needs is copied.
#[derive(Debug)]
pub struct Lending<'a> {
    connection: &'a Connection,
    bytes: &'a [u8],
}

impl<'a> Lending<'a> {
    /// Begins to lend `bytes`.
    pub fn new(connection: &'a Connection, bytes: &'a [u8]) -> Lending<'a> {
        Lending { connection, bytes }
    }

    /// The bytes, in pieces of at most `size`.
    pub fn pieces(&self, size: usize) -> impl Iterator<Item = Data<'_>> {
        self.bytes.chunks(size).map(|piece| Data::Staying(Piece(piece)))
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        if self.bytes.len() >= BULK_FROM {
            self.connection.repay_loans();
        }
    }
}

impl<'a> Data<'a> {
    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Data::Passing(bytes) | Data::Staying(Piece(bytes)) => bytes,
        }
    }
}

impl Piece<'_> {
    /// The bytes as a loan for the lane.
    pub(super) fn loan(self) -> transport::Loan {
        Box::new(Lent(self.0))
    }
}

struct Lent(*const [u8]);

// SAFETY: bytes that nobody changes while they are lent.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the lane has given the loan back when its `Lending` ends, which borrows the bytes.
        unsafe { &*self.0 }
    }
}
