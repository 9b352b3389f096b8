//! The ledger between processes. The test binary starts itself again as a worker: `ROLE` names what the
//! child does, descriptor 4 is the ledger, as it is for real workers.

use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::{Ledger, SlotHandle};

const ROLE: &str = "FARPOOL_LEDGER_TEST_ROLE";
const SLOT: &str = "FARPOOL_LEDGER_TEST_SLOT";
const LIMIT: u64 = 1000;

/// Not a test by itself: what the children run.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let slot = std::env::var(SLOT).unwrap().parse().unwrap();
    // SAFETY: `spawn` put the ledger at descriptor 4, and nothing else in this process uses the number.
    let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(4) };
    let slot = Ledger::open(&fd).unwrap().slot(slot).unwrap();
    match role.as_str() {
        "count" => (0..2000).for_each(|_| {
            slot.reserve(0, 3, None).unwrap();
            slot.release(0, 2).unwrap();
        }),
        "greedy" => greedy(&slot),
        "hold" => hold_the_lock(&slot, &fd),
        other => panic!("no role {other}"),
    }
}

fn greedy(slot: &SlotHandle) {
    for _ in 0..2000 {
        if slot.reserve(0, 7, Some(LIMIT)).is_ok() {
            assert!(slot.used(0).unwrap() <= LIMIT, "the limit was passed");
            if slot.own(0).unwrap() > LIMIT / 4 {
                slot.release(0, slot.own(0).unwrap()).unwrap();
            }
        }
    }
}

/// Takes the lock the way the crate does and keeps it until killed.
fn hold_the_lock(slot: &SlotHandle, fd: &OwnedFd) {
    slot.reserve(0, 500, Some(LIMIT)).unwrap();
    let file =
        std::fs::File::options().write(true).open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    let range = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open and `range` is a whole `flock`.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const range) }, 0);
    println!("held");
    std::thread::sleep(Duration::from_secs(60));
}

fn spawn(role: &str, slot: u32, ledger: &OwnedFd) -> Child {
    let fd = rustix::io::fcntl_dupfd_cloexec(ledger, 10).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role).env(SLOT, slot.to_string());
    command.stdout(Stdio::piped());
    // SAFETY: `dup2` may be called between fork and exec, and `fd` is open in the child.
    unsafe {
        command.pre_exec(move || match libc::dup2(fd.as_raw_fd(), 4) {
            4 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().unwrap()
}

/// Keeps descriptors 3 and 4 of this process taken for good, so that the standard library's own pipe to a
/// child never lands on the number that `spawn` overwrites.
fn occupy_low_descriptors() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(
        || {
            while std::fs::File::open("/dev/null").map(OwnedFd::from).unwrap().into_raw_fd() < 4 {}
        },
    );
}

#[test]
fn processes_that_reserve_at_once_lose_no_update() {
    occupy_low_descriptors();
    let (ledger, fd) = Ledger::create(1, 4).unwrap();
    // Two processes per slot: more contention than real workers have, who own a slot each.
    let children: Vec<Child> = (0..4).map(|n| spawn("count", n % 2, &fd)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(ledger.used(0).unwrap(), 4 * 2000);
}

#[test]
fn processes_never_pass_the_limit_together() {
    occupy_low_descriptors();
    let (ledger, fd) = Ledger::create(1, 4).unwrap();
    let children: Vec<Child> = (0..4).map(|n| spawn("greedy", n, &fd)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert!(ledger.used(0).unwrap() <= LIMIT);
}

#[test]
fn a_worker_killed_inside_the_lock_blocks_nobody_and_its_slot_can_be_cleared() {
    occupy_low_descriptors();
    let (ledger, fd) = Ledger::create(1, 2).unwrap();
    let mut child = spawn("hold", 1, &fd);
    let mut output = child.stdout.take().unwrap();
    let mut seen = String::new();
    while !seen.contains("held") {
        let mut byte = [0];
        assert_eq!(output.read(&mut byte).unwrap(), 1, "the child ended: {seen}");
        seen.push(char::from(byte[0]));
    }

    // Held: a reservation waits, clearing a slot does not.
    let slot = ledger.slot(0).unwrap();
    let waiting = std::thread::spawn(move || slot.reserve(0, 600, Some(LIMIT)).map(|()| Instant::now()));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished(), "the lock did not hold");
    ledger.clear_slot(1).unwrap();

    child.kill().unwrap();
    let killed = Instant::now();
    child.wait().unwrap();
    let admitted = waiting.join().unwrap().expect("the dead worker's bytes are free");
    assert!(admitted - killed < Duration::from_secs(1));
    assert_eq!(ledger.used(0).unwrap(), 600);
}
