//! Device code images: how long one is, and which PTX is inside.
//!
//! `cuModuleLoadData` and its relatives take a bare pointer. What it points to is a fatbin *wrapper* (which
//! points to a fatbin), a fatbin, an ELF file or PTX text, and its length is to be found in the image itself.
//! [`Image::locate`] does that for raw pointers; everything else here works on bytes we own and checks bounds.
//! The layout was worked out from what `nvcc` 13.0 writes: a 16-byte header, then entries of PTX or ELF, each
//! with a header that names its architecture, its sizes and, by flags, its compression (LZ4 or zstd).

use std::ffi::c_void;
use std::io::Read;

/// First word of the wrapper that `nvcc` puts into host programs.
pub const WRAPPER_MAGIC: u32 = 0x466243b1;
/// First word of a fatbin.
pub const HEADER_MAGIC: u32 = 0xba55ed50;

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const WRAPPER_BYTES: usize = 24;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 64;
const KIND_PTX: u16 = 1;
const KIND_ELF: u16 = 2;
const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
/// No real image comes near: a larger one is taken for garbage, not for a reason to allocate.
const LARGEST_IMAGE: u64 = 4 << 30;

/// Why an image cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The pointer is null.
    #[error("the image is a null pointer")]
    Null,
    /// Something in the image points outside of it.
    #[error("the image ends early: {what} needs {needed} bytes, {available} are there")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        available: u64,
    },
    /// The image's first bytes are none that we know.
    #[error("the image is neither a fatbin nor an ELF file nor PTX text")]
    UnknownKind,
    /// An entry's compressed bytes are malformed.
    #[error("a compressed entry cannot be unpacked ({0})")]
    Compression(String),
}

/// What kind of image a pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// A fatbin, reached directly or through its wrapper.
    Fatbin,
    /// An ELF file (a cubin).
    Elf,
    /// PTX text; the terminating NUL is not part of the image.
    Ptx,
}

/// A located image: where its bytes are and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Its kind, after following a wrapper.
    pub kind: ImageKind,
    /// First byte, after following a wrapper.
    pub address: *const u8,
    /// Length in bytes.
    pub length: usize,
}

impl Image {
    /// Finds kind and length of the image at `pointer`.
    ///
    /// # Errors
    /// When the pointer is null or the bytes there are no image.
    ///
    /// # Safety
    /// `pointer` must be null or lead to an image as `cuModuleLoadData` takes it: its headers and, for PTX, all
    /// bytes up to and including the NUL must be readable. The driver's own interface demands the same.
    pub unsafe fn locate(pointer: *const c_void) -> Result<Self, ImageError> {
        if pointer.is_null() {
            return Err(ImageError::Null);
        }
        let first: *const u8 = pointer.cast();
        // SAFETY: any image has four readable bytes; shorter PTX text ends with the NUL looked at in order.
        let magic = unsafe { leading_word(first) };
        match magic {
            // SAFETY: the magic says that a whole wrapper is readable.
            Some(WRAPPER_MAGIC) => unsafe { Self::behind_wrapper(first) },
            // SAFETY: the magic says that a whole fatbin header is readable.
            Some(HEADER_MAGIC) => unsafe { Self::fatbin_at(first) },
            // SAFETY: the magic says that a whole ELF header, and the tables it names, are readable.
            Some(word) if word.to_le_bytes() == ELF_MAGIC => unsafe { Self::elf_at(first) },
            // SAFETY: the caller promises a NUL-terminated text in all other cases.
            _ => unsafe { Self::text_at(first) },
        }
    }

    /// The image at the start of `bytes`, which were read from a file and may end too early.
    ///
    /// # Errors
    /// When the bytes are no image, or not all of one.
    pub fn within(bytes: &[u8]) -> Result<&[u8], ImageError> {
        match u32_at(bytes, 0) {
            // A wrapper holds a pointer, which means nothing in a file.
            Ok(WRAPPER_MAGIC) => Err(ImageError::UnknownKind),
            Ok(HEADER_MAGIC) => head(bytes, fatbin_length(bytes)?, "fatbin"),
            Ok(word) if word.to_le_bytes() == ELF_MAGIC => head(bytes, elf_length(bytes)?, "ELF file"),
            _ => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                let text = &bytes[..end];
                if is_text(text) { Ok(text) } else { Err(ImageError::UnknownKind) }
            }
        }
    }

    /// # Safety
    /// `wrapper` leads to a readable fatbin wrapper.
    unsafe fn behind_wrapper(wrapper: *const u8) -> Result<Self, ImageError> {
        // SAFETY: the caller promises WRAPPER_BYTES readable bytes.
        let bytes = unsafe { std::slice::from_raw_parts(wrapper, WRAPPER_BYTES) };
        let address = usize::try_from(u64_at(bytes, 8)?).map_err(|_| ImageError::UnknownKind)?;
        if address == 0 {
            return Err(ImageError::Null);
        }
        let inner = std::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: a wrapper points to a whole image.
        match unsafe { leading_word(inner) } {
            // SAFETY: the magic says that a fatbin header is readable.
            Some(HEADER_MAGIC) => unsafe { Self::fatbin_at(inner) },
            // SAFETY: as above, for an ELF file.
            Some(word) if word.to_le_bytes() == ELF_MAGIC => unsafe { Self::elf_at(inner) },
            _ => Err(ImageError::UnknownKind),
        }
    }

    /// # Safety
    /// `header` leads to a readable fatbin header.
    unsafe fn fatbin_at(header: *const u8) -> Result<Self, ImageError> {
        // SAFETY: the caller promises HEADER_BYTES readable bytes.
        let bytes = unsafe { std::slice::from_raw_parts(header, HEADER_BYTES) };
        Ok(Self { kind: ImageKind::Fatbin, address: header, length: checked_length(fatbin_length(bytes)?)? })
    }

    /// # Safety
    /// `header` leads to an ELF file whose header and section and program header tables are readable.
    unsafe fn elf_at(header: *const u8) -> Result<Self, ImageError> {
        // SAFETY: a 64-bit ELF header has 64 bytes.
        let bytes = unsafe { std::slice::from_raw_parts(header, 64) };
        let tables_end = elf_tables_end(bytes)?;
        // SAFETY: the caller promises that both tables are readable, and they end at `tables_end`.
        let head = unsafe { std::slice::from_raw_parts(header, checked_length(tables_end)?) };
        let length = elf_length(head)?;
        Ok(Self { kind: ImageKind::Elf, address: header, length: checked_length(length)? })
    }

    /// # Safety
    /// `text` leads to a NUL-terminated text.
    unsafe fn text_at(text: *const u8) -> Result<Self, ImageError> {
        // SAFETY: the caller promises the NUL.
        let length = unsafe { std::ffi::CStr::from_ptr(text.cast()) }.count_bytes();
        // SAFETY: these bytes were just read.
        let bytes = unsafe { std::slice::from_raw_parts(text, length) };
        if !is_text(bytes) {
            return Err(ImageError::UnknownKind);
        }
        Ok(Self { kind: ImageKind::Ptx, address: text, length })
    }

    /// The image's bytes.
    ///
    /// # Safety
    /// The memory that [`Image::locate`] looked at must still be there and not change during `'a`.
    #[must_use]
    pub unsafe fn bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: `locate` found `length` bytes at `address`; the caller promises that they stay.
        unsafe { std::slice::from_raw_parts(self.address, self.length) }
    }
}

/// Length of a fatbin, from its header.
fn fatbin_length(header: &[u8]) -> Result<u64, ImageError> {
    Ok(u64::from(u16_at(header, 6)?).saturating_add(u64_at(header, 8)?))
}

/// Whether this may be PTX, by its first bytes.
fn is_text(bytes: &[u8]) -> bool {
    let plain = |byte: &u8| *byte >= 0x80 || !byte.is_ascii_control() || byte.is_ascii_whitespace();
    !bytes.is_empty() && bytes.iter().take(64).all(plain)
}

/// # Safety
/// Bytes up to and including the first NUL, or four bytes, are readable.
unsafe fn leading_word(first: *const u8) -> Option<u32> {
    let mut word = [0; 4];
    for (index, byte) in word.iter_mut().enumerate() {
        // SAFETY: no byte before this one was NUL, so the caller promises this one.
        *byte = unsafe { first.add(index).read() };
        if *byte == 0 {
            return None;
        }
    }
    Some(u32::from_le_bytes(word))
}

/// One entry of a fatbin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// PTX or machine code.
    pub kind: EntryKind,
    /// Architecture as a number: 80 for sm_80 or compute_80.
    pub architecture: u32,
    compression: Compression,
    payload: &'a [u8],
    unpacked_length: u64,
}

/// Kind of an [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// PTX text.
    Ptx,
    /// Machine code in an ELF file.
    Elf,
    /// Anything else, by its number.
    Other(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Lz4,
    Zstd,
}

impl Entry<'_> {
    /// The entry's bytes, unpacked.
    ///
    /// # Errors
    /// When the compressed bytes are malformed.
    pub fn unpack(&self) -> Result<Vec<u8>, ImageError> {
        let malformed = |reason: String| ImageError::Compression(reason);
        let expected = checked_length(self.unpacked_length)?;
        match self.compression {
            Compression::None => Ok(self.payload.to_vec()),
            // LZ4 shrinks by at most 255 to 1: a header that claims more is not a reason to allocate.
            Compression::Lz4 if expected / 256 > self.payload.len() => {
                Err(malformed("impossible size".to_owned()))
            }
            Compression::Lz4 => lz4_flex::block::decompress(self.payload, expected)
                .map_err(|error| malformed(error.to_string())),
            Compression::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(self.payload)
                    .map_err(|error| malformed(error.to_string()))?;
                let mut unpacked = Vec::new();
                decoder
                    .take(self.unpacked_length)
                    .read_to_end(&mut unpacked)
                    .map_err(|error| malformed(error.to_string()))?;
                Ok(unpacked)
            }
        }
    }
}

/// The entries of a fatbin (header included in `fatbin`).
///
/// # Errors
/// When a header points outside of `fatbin`.
pub fn entries(fatbin: &[u8]) -> Result<Vec<Entry<'_>>, ImageError> {
    if fatbin.len() < HEADER_BYTES || u32_at(fatbin, 0)? != HEADER_MAGIC {
        return Err(ImageError::UnknownKind);
    }
    let mut rest = tail(fatbin, u64::from(u16_at(fatbin, 6)?), "fatbin header")?;
    let mut found = Vec::new();
    while rest.len() >= ENTRY_BYTES {
        let header_length = u64::from(u32_at(rest, 4)?);
        let padded_length = u64_at(rest, 8)?;
        let compressed_length = u64::from(u32_at(rest, 16)?);
        let flags = u64_at(rest, 40)?;
        let compression = match (flags & FLAG_ZSTD != 0, flags & FLAG_LZ4 != 0) {
            (true, _) => Compression::Zstd,
            (false, true) => Compression::Lz4,
            (false, false) => Compression::None,
        };
        if header_length < 32 {
            return Err(ImageError::UnknownKind);
        }
        let after_header = tail(rest, header_length, "entry header")?;
        let length = if compression == Compression::None { padded_length } else { compressed_length };
        found.push(Entry {
            kind: match u16_at(rest, 0)? {
                KIND_PTX => EntryKind::Ptx,
                KIND_ELF => EntryKind::Elf,
                other => EntryKind::Other(other),
            },
            architecture: u32_at(rest, 28)?,
            compression,
            payload: head(after_header, length, "entry payload")?,
            unpacked_length: u64_at(rest, 56)?,
        });
        rest = tail(after_header, padded_length, "entry payload")?;
    }
    Ok(found)
}

/// The best PTX of a fatbin for a device of compute capability `architecture` (80 for 8.0): the highest that
/// the device can run. `None` when there is none, as in images with machine code only.
///
/// # Errors
/// When the image is malformed or an entry cannot be unpacked.
pub fn best_ptx(fatbin: &[u8], architecture: u32) -> Result<Option<String>, ImageError> {
    let best = entries(fatbin)?
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Ptx && entry.architecture <= architecture)
        .max_by_key(|entry| entry.architecture);
    best.map(|entry| entry.unpack().map(|bytes| ptx_text(&bytes))).transpose()
}

/// PTX text from an image's bytes: cut at the first NUL (entries are padded with them).
#[must_use]
pub fn ptx_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Where the section and program header tables of an ELF file end, from its 64-byte header.
fn elf_tables_end(header: &[u8]) -> Result<u64, ImageError> {
    if header.get(..4) != Some(&ELF_MAGIC) || header.get(4) != Some(&2) {
        return Err(ImageError::UnknownKind);
    }
    let sections_end =
        u64_at(header, 40)?.saturating_add(u64::from(u16_at(header, 58)?) * u64::from(u16_at(header, 60)?));
    let programs_end =
        u64_at(header, 32)?.saturating_add(u64::from(u16_at(header, 54)?) * u64::from(u16_at(header, 56)?));
    Ok(sections_end.max(programs_end).max(64))
}

/// Length of a 64-bit little-endian ELF file, from bytes that hold at least its header tables: the furthest end
/// of tables, sections and segments.
///
/// # Errors
/// When a table lies outside of `bytes`.
pub fn elf_length(bytes: &[u8]) -> Result<u64, ImageError> {
    let mut end = elf_tables_end(bytes)?;
    const SECTION_WITHOUT_BYTES: u32 = 8;
    for index in 0..u64::from(u16_at(bytes, 60)?) {
        let at = u64_at(bytes, 40)?.saturating_add(index * u64::from(u16_at(bytes, 58)?));
        let section = tail(bytes, at, "ELF section header")?;
        if u32_at(section, 4)? != SECTION_WITHOUT_BYTES {
            end = end.max(u64_at(section, 24)?.saturating_add(u64_at(section, 32)?));
        }
    }
    for index in 0..u64::from(u16_at(bytes, 56)?) {
        let at = u64_at(bytes, 32)?.saturating_add(index * u64::from(u16_at(bytes, 54)?));
        let segment = tail(bytes, at, "ELF program header")?;
        end = end.max(u64_at(segment, 8)?.saturating_add(u64_at(segment, 32)?));
    }
    Ok(end)
}

fn checked_length(length: u64) -> Result<usize, ImageError> {
    if length > LARGEST_IMAGE {
        return Err(ImageError::Truncated { what: "image", needed: length, available: LARGEST_IMAGE });
    }
    usize::try_from(length).map_err(|_| ImageError::UnknownKind)
}

fn head<'a>(bytes: &'a [u8], length: u64, what: &'static str) -> Result<&'a [u8], ImageError> {
    let available = bytes.len() as u64;
    usize::try_from(length).ok().and_then(|length| bytes.get(..length)).ok_or(ImageError::Truncated {
        what,
        needed: length,
        available,
    })
}

fn tail<'a>(bytes: &'a [u8], from: u64, what: &'static str) -> Result<&'a [u8], ImageError> {
    let available = bytes.len() as u64;
    usize::try_from(from).ok().and_then(|from| bytes.get(from..)).ok_or(ImageError::Truncated {
        what,
        needed: from,
        available,
    })
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ImageError> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(ImageError::Truncated {
        what: "header field",
        needed: (at + N) as u64,
        available: bytes.len() as u64,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ImageError> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ImageError> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ImageError> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
