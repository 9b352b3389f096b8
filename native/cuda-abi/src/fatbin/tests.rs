use super::*;

const PTX: &str = ".version 9.0\n.target sm_80\n.address_size 64\n// text text text text text text text\n";

struct TestEntry {
    kind: u16,
    architecture: u32,
    flags: u64,
    payload: Vec<u8>,
    unpacked: u64,
}

fn plain(kind: u16, architecture: u32, payload: &[u8]) -> TestEntry {
    TestEntry { kind, architecture, flags: 0x11, payload: payload.to_vec(), unpacked: 0 }
}

fn fatbin(list: &[TestEntry]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in list {
        let padded = entry.payload.len().next_multiple_of(8);
        let mut header = vec![0; 64];
        header[0..2].copy_from_slice(&entry.kind.to_le_bytes());
        header[2..4].copy_from_slice(&0x101_u16.to_le_bytes());
        header[4..8].copy_from_slice(&64_u32.to_le_bytes());
        header[8..16].copy_from_slice(&(padded as u64).to_le_bytes());
        header[16..20].copy_from_slice(&u32::try_from(entry.payload.len()).unwrap().to_le_bytes());
        header[28..32].copy_from_slice(&entry.architecture.to_le_bytes());
        header[40..48].copy_from_slice(&entry.flags.to_le_bytes());
        header[56..64].copy_from_slice(&entry.unpacked.to_le_bytes());
        body.extend(header);
        body.extend(&entry.payload);
        body.resize(body.len().next_multiple_of(8), 0);
    }
    let mut image = Vec::new();
    image.extend(HEADER_MAGIC.to_le_bytes());
    image.extend(1_u16.to_le_bytes());
    image.extend(16_u16.to_le_bytes());
    image.extend((body.len() as u64).to_le_bytes());
    image.extend(body);
    image
}

#[test]
fn the_highest_ptx_that_the_device_runs_is_chosen() {
    let image = fatbin(&[
        plain(2, 80, b"machine"),
        plain(1, 70, b"seventy"),
        plain(1, 80, b"eighty"),
        plain(1, 90, b"ninety"),
    ]);
    assert_eq!(best_ptx(&image, 80).unwrap().as_deref(), Some("eighty"));
    assert_eq!(best_ptx(&image, 75).unwrap().as_deref(), Some("seventy"));
}

#[test]
fn machine_code_only_has_no_ptx() {
    assert_eq!(best_ptx(&fatbin(&[plain(2, 80, b"machine")]), 80).unwrap(), None);
}

#[test]
fn lz4_entries_are_unpacked() {
    let payload = lz4_flex::block::compress(PTX.as_bytes());
    let image = fatbin(&[TestEntry {
        kind: 1,
        architecture: 80,
        flags: 0x2011,
        payload,
        unpacked: PTX.len() as u64,
    }]);
    assert_eq!(best_ptx(&image, 80).unwrap().as_deref(), Some(PTX));
}

#[test]
fn zstd_entries_are_unpacked() {
    let payload =
        ruzstd::encoding::compress_to_vec(PTX.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
    let image = fatbin(&[TestEntry {
        kind: 1,
        architecture: 80,
        flags: 0x8011,
        payload,
        unpacked: PTX.len() as u64,
    }]);
    assert_eq!(best_ptx(&image, 80).unwrap().as_deref(), Some(PTX));
}

#[test]
fn every_truncation_and_every_changed_byte_is_survived() {
    let payload = lz4_flex::block::compress(PTX.as_bytes());
    let image = fatbin(&[
        TestEntry { kind: 1, architecture: 80, flags: 0x2011, payload, unpacked: PTX.len() as u64 },
        plain(1, 70, b"seventy"),
    ]);
    for length in 0..image.len() {
        let _ = best_ptx(&image[..length], 80);
    }
    for index in 0..image.len() {
        let mut changed = image.clone();
        changed[index] ^= 0xff;
        let _ = best_ptx(&changed, 80);
    }
}

#[test]
fn lengths_come_from_the_image() {
    let image = fatbin(&[plain(1, 80, b"eighty")]);
    // SAFETY: the vector outlives the look.
    let found = unsafe { Image::locate(image.as_ptr().cast()) }.unwrap();
    assert_eq!((found.kind, found.length), (ImageKind::Fatbin, image.len()));

    let mut wrapper = Vec::new();
    wrapper.extend(WRAPPER_MAGIC.to_le_bytes());
    wrapper.extend(1_u32.to_le_bytes());
    wrapper.extend((image.as_ptr().expose_provenance() as u64).to_le_bytes());
    wrapper.extend(0_u64.to_le_bytes());
    // SAFETY: wrapper and image outlive the look.
    let found = unsafe { Image::locate(wrapper.as_ptr().cast()) }.unwrap();
    assert_eq!((found.kind, found.length, found.address), (ImageKind::Fatbin, image.len(), image.as_ptr()));

    let text = std::ffi::CString::new(PTX).unwrap();
    // SAFETY: the text is NUL-terminated.
    let found = unsafe { Image::locate(text.as_ptr().cast()) }.unwrap();
    assert_eq!((found.kind, found.length), (ImageKind::Ptx, PTX.len()));
}

#[test]
fn garbage_and_null_are_refused() {
    // SAFETY: null is allowed.
    assert_eq!(unsafe { Image::locate(std::ptr::null()) }, Err(ImageError::Null));
    // SAFETY: the bytes end with a NUL.
    assert_eq!(unsafe { Image::locate(c"\x01\x02".as_ptr().cast()) }, Err(ImageError::UnknownKind));
    // SAFETY: as above.
    assert_eq!(unsafe { Image::locate(c"".as_ptr().cast()) }, Err(ImageError::UnknownKind));
}

#[test]
fn an_elf_file_ends_where_its_furthest_part_ends() {
    let mut elf = vec![0_u8; 200];
    elf[..4].copy_from_slice(b"\x7fELF");
    elf[4] = 2;
    elf[40..48].copy_from_slice(&64_u64.to_le_bytes());
    elf[58..60].copy_from_slice(&64_u16.to_le_bytes());
    elf[60..62].copy_from_slice(&1_u16.to_le_bytes());
    elf[64 + 4..64 + 8].copy_from_slice(&1_u32.to_le_bytes());
    elf[64 + 24..64 + 32].copy_from_slice(&130_u64.to_le_bytes());
    elf[64 + 32..64 + 40].copy_from_slice(&70_u64.to_le_bytes());
    assert_eq!(elf_length(&elf), Ok(200));
    // SAFETY: the vector outlives the look and holds all tables.
    let found = unsafe { Image::locate(elf.as_ptr().cast()) }.unwrap();
    assert_eq!((found.kind, found.length), (ImageKind::Elf, 200));
}

#[test]
fn an_image_from_a_file_must_be_whole() {
    let mut elf = vec![0_u8; 200];
    elf[..4].copy_from_slice(b"\x7fELF");
    elf[4] = 2;
    elf[40..48].copy_from_slice(&136_u64.to_le_bytes());
    elf[58..60].copy_from_slice(&64_u16.to_le_bytes());
    elf[60..62].copy_from_slice(&1_u16.to_le_bytes());
    for whole in [elf, fatbin(&[plain(1, 80, b"eighty")])] {
        assert_eq!(Image::within(&whole), Ok(whole.as_slice()));
        let mut longer = whole.clone();
        longer.extend([0; 9]);
        assert_eq!(Image::within(&longer), Ok(whole.as_slice()), "what follows is not part of it");
        // Fewer than four bytes may look like a text.
        for length in 4..whole.len() {
            assert!(Image::within(&whole[..length]).is_err(), "{length} bytes were accepted");
        }
    }
    assert_eq!(Image::within(PTX.as_bytes()), Ok(PTX.as_bytes()), "a text needs no NUL in a file");
    assert!(Image::within(&WRAPPER_MAGIC.to_le_bytes()).is_err(), "a pointer means nothing in a file");
    assert!(Image::within(b"").is_err());
}
