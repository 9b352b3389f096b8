//! A copy of a box of bytes between two memories, cut into pieces that fit a record.

use cuda_abi::CUresult;
use wire::cuda::CuMemcpy3DAsyncV2;
use wire::handle::Stream;
use wire::{Request as _, Writer};

use crate::capture;
use crate::client::Client;
use crate::connection::{Data, Destination};
use crate::entry::Answer;
use crate::graph::action::Action;

/// Bytes of a piece that crosses the wire.
const PIECE: usize = 4 << 20;

/// Numbers of `direction` on the wire.
const TO_DEVICE: u32 = 0;
const TO_HOST: u32 = 1;
const ON_DEVICE: u32 = 2;

/// Where one side of a copy lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Host(*mut u8),
    /// On a device.
    Device(u64),
}

// SAFETY: the program vouches for the memory of its copies until they are done; whoever follows the pointer relies on
// that, on whatever thread.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// One side of a copy: a memory of rows, and where the box begins in it.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    /// Where the memory lies.
    pub place: Place,
    /// Bytes from row to row.
    pub pitch: usize,
    /// Rows from slice to slice.
    pub height: usize,
    /// First byte in each row.
    pub x: usize,
    /// First row in each slice.
    pub y: usize,
    /// First slice.
    pub z: usize,
}

/// A copy of `width` bytes × `height` rows × `depth` slices.
#[derive(Debug, Clone, Copy)]
pub struct Copy3d {
    /// From here.
    pub source: Side,
    /// To here.
    pub destination: Side,
    /// Bytes of a row.
    pub width: usize,
    /// Rows of a slice.
    pub height: usize,
    /// Slices.
    pub depth: usize,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    x: usize,
    y: usize,
    z: usize,
    width: usize,
    height: usize,
    depth: usize,
}

impl Copy3d {
    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// Checks that both sides hold the box.
    ///
    /// Errors: `INVALID_VALUE` when one does not.
    pub fn check(&self, client: &Client) -> Answer {
        if self.is_empty() {
            return Ok(());
        }
        self.source.check(client, self)?;
        self.destination.check(client, self)
    }

    /// The rows of the side at `place`, which is in this process.
    pub fn host_rows(&self, place: Place) -> Vec<*mut u8> {
        let side = if self.source.place == place { &self.source } else { &self.destination };
        let whole = Piece { x: 0, y: 0, z: 0, width: self.width, height: self.height, depth: self.depth };
        match side.place {
            Place::Host(_) => side.rows(whole).collect(),
            Place::Device(_) => Vec::new(),
        }
    }

    /// Copies inside this process.
    pub fn move_here(&self) {
        for piece in self.pieces(self.depth) {
            let bytes = self.source.gather(piece);
            self.destination.scatter(piece, &bytes);
        }
    }

    /// Makes the copy. Bytes to the host are there when this returns, except those that an asynchronous copy brings to
    /// pinned memory.
    ///
    /// Errors: `INVALID_VALUE` when a side does not hold the box.
    pub fn run(&self, client: &Client, stream: Stream, is_asynchronous: bool) -> Answer {
        client.contexts.current()?;
        if self.is_empty() {
            return Ok(());
        }
        self.check(client)?;
        if capture::record(client, stream, || Ok(Action::Copy(*self, capture::context_of(client, stream)?)))?
        {
            return Ok(());
        }
        if is_asynchronous
            && let (Place::Device(_), Place::Host(base)) = (self.source.place, self.destination.place)
            && self.destination.is_pinned(client, base, self)
        {
            return self.fetch_later(client, stream, base);
        }
        if client.connection().has_callbacks() || client.connection().has_any_downloads() {
            // Something under way may write host memory that this copy reads or writes.
            client.call(&wire::cuda::CuStreamSynchronize { hStream: stream })?;
        }
        match (self.source.place, self.destination.place) {
            (Place::Host(_), Place::Device(_)) => self.push(client, stream),
            (Place::Device(_), Place::Host(_)) => self.fetch(client, stream),
            (Place::Device(_), Place::Device(_)) => {
                let whole =
                    Piece { x: 0, y: 0, z: 0, width: self.width, height: self.height, depth: self.depth };
                client.post(&self.request(whole, stream, ON_DEVICE, &[]))
            }
            (Place::Host(_), Place::Host(_)) => {
                self.move_here();
                Ok(())
            }
        }
    }

    fn push(&self, client: &Client, stream: Stream) -> Answer {
        for piece in self.pieces(self.depth) {
            let bytes = self.source.gather(piece);
            let mut head = Vec::new();
            self.request(piece, stream, TO_DEVICE, &[]).encode(&mut Writer::new(&mut head));
            // The length of the data is written with the data.
            head.truncate(head.len() - size_of::<u64>());
            let call = <CuMemcpy3DAsyncV2<'_>>::CALL;
            client.post_with_data(
                call,
                Some(stream),
                |writer| writer.put_raw(&head),
                Data::Passing(&bytes),
            )?;
        }
        Ok(())
    }

    fn fetch(&self, client: &Client, stream: Stream) -> Answer {
        for piece in self.pieces(self.depth) {
            let reply = client.call(&self.request(piece, stream, TO_HOST, &[]))?;
            if reply.data.len() != piece.width * piece.height * piece.depth {
                return Err(CUresult::UNKNOWN);
            }
            self.destination.scatter(piece, &reply.data);
        }
        client.finished_here(stream);
        Ok(())
    }

    /// Has the bytes land in pinned memory when the stream gets there.
    fn fetch_later(&self, client: &Client, stream: Stream, base: *mut u8) -> Answer {
        for piece in self.pieces(1) {
            let offset = self.destination.offset(piece.x, piece.y, piece.z).ok_or(CUresult::INVALID_VALUE)?;
            // SAFETY: the rows lie in pinned memory (checked before), which is given back only when no download is
            // under way.
            unsafe {
                let first = base.add(offset);
                let rows = Destination::with_rows(first, piece.width, piece.height, self.destination.pitch);
                client.download(&self.request(piece, stream, TO_HOST, &[]), rows)?;
            }
        }
        Ok(())
    }

    /// Pieces of at most [`PIECE`] bytes and `slices` slices: the whole box, else slices, rows, or parts of rows.
    fn pieces(&self, slices: usize) -> Vec<Piece> {
        let (width, height, depth) = (self.width, self.height, self.depth);
        if depth <= slices && width.saturating_mul(height).saturating_mul(depth) <= PIECE {
            return vec![Piece { x: 0, y: 0, z: 0, width, height, depth }];
        }
        let piece_width = width.min(PIECE);
        let piece_height = (PIECE / piece_width).clamp(1, height);
        let mut pieces = Vec::new();
        for z in 0..depth {
            for y in (0..height).step_by(piece_height) {
                for x in (0..width).step_by(piece_width) {
                    pieces.push(Piece {
                        x,
                        y,
                        z,
                        width: piece_width.min(width - x),
                        height: piece_height.min(height - y),
                        depth: 1,
                    });
                }
            }
        }
        pieces
    }

    fn request<'a>(
        &self,
        piece: Piece,
        stream: Stream,
        direction: u32,
        data: &'a [u8],
    ) -> CuMemcpy3DAsyncV2<'a> {
        let address = |side: &Side| match side.place {
            Place::Device(address) => address,
            Place::Host(_) => 0,
        };
        CuMemcpy3DAsyncV2 {
            source_address: address(&self.source),
            source_pitch: self.source.pitch as u64,
            source_height: self.source.height as u64,
            source_x: (self.source.x + piece.x) as u64,
            source_y: (self.source.y + piece.y) as u64,
            source_z: (self.source.z + piece.z) as u64,
            destination_address: address(&self.destination),
            destination_pitch: self.destination.pitch as u64,
            destination_height: self.destination.height as u64,
            destination_x: (self.destination.x + piece.x) as u64,
            destination_y: (self.destination.y + piece.y) as u64,
            destination_z: (self.destination.z + piece.z) as u64,
            width: piece.width as u64,
            height: piece.height as u64,
            depth: piece.depth as u64,
            stream,
            direction,
            data,
        }
    }
}

impl Side {
    /// Checks that rows and slices do not overlap, and that device memory holds the whole box.
    fn check(&self, client: &Client, copy: &Copy3d) -> Answer {
        let fits = self.x.checked_add(copy.width).is_some_and(|end| end <= self.pitch);
        let slices = copy.depth == 1 || self.y.checked_add(copy.height).is_some_and(|end| end <= self.height);
        if !fits || !slices {
            return Err(CUresult::INVALID_VALUE);
        }
        let end = self.offset(copy.width, copy.height - 1, copy.depth - 1).ok_or(CUresult::INVALID_VALUE)?;
        let start = self.offset(0, 0, 0).ok_or(CUresult::INVALID_VALUE)?;
        if let Place::Device(address) = self.place {
            let first = address.checked_add(start as u64).ok_or(CUresult::INVALID_VALUE)?;
            client.ranges.device_range(first, (end - start) as u64)?;
        }
        Ok(())
    }

    /// Whether the host memory at `base` that holds the box is pinned.
    fn is_pinned(&self, client: &Client, base: *mut u8, copy: &Copy3d) -> bool {
        let last = self.offset(copy.width, copy.height - 1, copy.depth - 1);
        let (Some(start), Some(end)) = (self.offset(0, 0, 0), last) else { return false };
        crate::servers::is_pinned(client, base.wrapping_add(start).addr() as u64, (end - start) as u64)
    }

    /// Byte offset of a place in the box.
    fn offset(&self, x: usize, y: usize, z: usize) -> Option<usize> {
        let row = self.z.checked_add(z)?.checked_mul(self.height)?.checked_add(self.y.checked_add(y)?)?;
        row.checked_mul(self.pitch)?.checked_add(self.x.checked_add(x)?)
    }

    fn rows(&self, piece: Piece) -> impl Iterator<Item = *mut u8> + '_ {
        let Place::Host(base) = self.place else { unreachable!("only host memory has rows here") };
        (0..piece.depth).flat_map(move |z| {
            (0..piece.height).map(move |y| {
                let offset = self.offset(piece.x, piece.y + y, piece.z + z).unwrap_or(0);
                base.wrapping_add(offset)
            })
        })
    }

    /// The bytes of a piece of host memory, row after row.
    fn gather(&self, piece: Piece) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(piece.width * piece.height * piece.depth);
        for row in self.rows(piece) {
            // SAFETY: the program says that its memory holds the box; the row lies in it (checked in `check`).
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(row, piece.width) });
        }
        bytes
    }

    /// Puts the bytes of a piece into host memory.
    fn scatter(&self, piece: Piece, bytes: &[u8]) {
        for (row, bytes) in self.rows(piece).zip(bytes.chunks_exact(piece.width)) {
            // SAFETY: the program says that its memory holds the box; the row lies in it (checked in `check`).
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), row, bytes.len()) };
        }
    }
}
