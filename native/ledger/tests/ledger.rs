//! The ledger within one process.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use ledger::{Ledger, LedgerError};

fn file_of(fd: &impl AsFd) -> File {
    File::from(fd.as_fd().try_clone_to_owned().expect("a descriptor can be duplicated"))
}

#[test]
fn reservations_of_all_slots_share_one_limit() {
    let (ledger, _fd) = Ledger::create(2, 4).unwrap();
    let (first, second) = (ledger.slot(0).unwrap(), ledger.slot(3).unwrap());

    first.reserve(1, 60, Some(100)).unwrap();
    second.reserve(1, 40, Some(100)).unwrap();
    let refused = second.reserve(1, 1, Some(100)).unwrap_err();

    assert!(matches!(refused, LedgerError::Exceeded { device: 1, requested: 1, used: 100, limit: 100 }));
    assert_eq!((first.own(1).unwrap(), second.own(1).unwrap()), (60, 40));
    assert_eq!((first.used(1).unwrap(), first.used(0).unwrap()), (100, 0));
}

#[test]
fn released_and_cleared_bytes_can_be_reserved_again() {
    let (ledger, fd) = Ledger::create(1, 2).unwrap();
    let worker = Ledger::open(&fd).unwrap().slot(1).unwrap();
    worker.reserve(0, 100, Some(100)).unwrap();

    worker.release(0, 30).unwrap();
    assert!(matches!(worker.release(0, 71), Err(LedgerError::NotReserved { own: 70, .. })));
    ledger.slot(0).unwrap().reserve(0, 30, Some(100)).unwrap();
    ledger.clear_slot(1).unwrap();

    assert_eq!(ledger.used(0).unwrap(), 30);
}

#[test]
fn sums_beyond_64_bits_are_refused_without_a_limit_too() {
    let (ledger, _fd) = Ledger::create(1, 2).unwrap();
    let (first, second) = (ledger.slot(0).unwrap(), ledger.slot(1).unwrap());
    first.reserve(0, u64::MAX, None).unwrap();
    assert!(matches!(second.reserve(0, 1, None), Err(LedgerError::Exceeded { .. })));
    assert!(matches!(first.reserve(0, u64::MAX, None), Err(LedgerError::Exceeded { .. })));
}

#[test]
fn slots_devices_and_shapes_that_do_not_exist_are_errors() {
    let (ledger, _fd) = Ledger::create(1, 2).unwrap();
    assert!(matches!(ledger.slot(2), Err(LedgerError::UnknownSlot { slot: 2, slots: 2 })));
    assert!(matches!(ledger.clear_slot(9), Err(LedgerError::UnknownSlot { .. })));
    assert!(matches!(ledger.used(1), Err(LedgerError::UnknownDevice { device: 1, devices: 1 })));
    for (devices, slots) in [(0, 1), (1, 0), (65, 1), (1, 4097), (u32::MAX, u32::MAX)] {
        assert!(matches!(Ledger::create(devices, slots), Err(LedgerError::Shape { .. })));
    }
}

#[test]
fn the_file_cannot_be_cut_or_grown() {
    let (_ledger, fd) = Ledger::create(1, 2).unwrap();
    let file = file_of(&fd);
    let length = file.metadata().unwrap().len();
    assert!(file.set_len(length - 1).is_err());
    assert!(file.set_len(length + 1).is_err());
}

#[test]
fn every_damaged_header_byte_is_an_error_for_open_and_for_open_ledgers() {
    let (ledger, fd) = Ledger::create(3, 5).unwrap();
    let worker = ledger.slot(0).unwrap();
    let file = file_of(&fd);
    let mut byte = [0];
    for offset in 0..64 {
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x81], offset).unwrap();
        assert!(matches!(Ledger::open(&fd), Err(LedgerError::Corrupt { .. })), "byte {offset}");
        assert!(matches!(worker.reserve(0, 1, None), Err(LedgerError::Corrupt { .. })), "byte {offset}");
        file.write_all_at(&byte, offset).unwrap();
    }
    worker.reserve(0, 1, None).unwrap();
}

#[test]
fn nonsense_in_another_slot_is_an_error_not_a_panic() {
    let (ledger, fd) = Ledger::create(1, 3).unwrap();
    file_of(&fd).write_all_at(&[0xff; 16], 64 + 8).unwrap();
    assert!(matches!(ledger.used(0), Err(LedgerError::Corrupt { .. })));
    assert!(matches!(ledger.slot(0).unwrap().reserve(0, 1, None), Err(LedgerError::Corrupt { .. })));
}

#[test]
fn files_that_are_no_ledgers_are_refused() {
    let empty = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    assert!(matches!(Ledger::open(&empty), Err(LedgerError::Corrupt { .. })));
    let (pipe, _other) = rustix::pipe::pipe().unwrap();
    assert!(Ledger::open(&pipe).is_err());
}

#[test]
fn threads_that_share_one_handle_exclude_each_other() {
    let (ledger, _fd) = Ledger::create(1, 1).unwrap();
    let slot = ledger.slot(0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    slot.reserve(0, 3, None).unwrap();
                    slot.release(0, 2).unwrap();
                }
            });
        }
    });
    assert_eq!(slot.own(0).unwrap(), 2000);
}
