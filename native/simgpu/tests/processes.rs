//! Memory accounted across processes.

mod kit;

use std::io::{BufRead, BufReader, Read};
use std::process::Child;

use cuda_abi::*;
use kit::{Driver, start, state_path};

const MIB: usize = 1 << 20;

/// Runs the case that the environment names; as a test of its own it has none.
#[test]
fn run_case() {
    match std::env::var("SIMGPU_TEST_CASE").as_deref() {
        Ok("hold") => hold(),
        Ok(other) => panic!("no case {other}"),
        Err(_) => {}
    }
}

/// Takes 600 MiB, says so, and waits to be ended.
fn hold() {
    let driver = Driver::with_context();
    driver.allocate(600 * MIB).expect("600 MiB are free");
    println!("\nholding");
    let _ = std::io::stdin().read(&mut [0]);
}

fn started_holder(state: &str) -> Child {
    let mut holder = start("hold", &[("FARPOOL_SIMGPU_STATE", state)]);
    let output = BufReader::new(holder.stdout.as_mut().expect("piped"));
    assert!(output.lines().any(|line| line.is_ok_and(|line| line == "holding")), "the holder starts");
    holder
}

type MemoryInfo = unsafe extern "C" fn(i32, *mut u64, *mut u64) -> i32;

#[test]
fn other_processes_count_and_killed_ones_leave_nothing() {
    let state = state_path("accounts");
    let state = state.to_str().expect("a plain path");
    // SAFETY: this test binary reads its environment on this thread only.
    unsafe {
        std::env::set_var("FARPOOL_SIMGPU_STATE", state);
        std::env::set_var("FARPOOL_SIMGPU_MEMORY", "1GiB");
    }
    let driver = Driver::load();
    let info = || {
        let (mut free, mut total) = (0, 0);
        let ask = driver.symbol::<MemoryInfo>("farpoolSimgpuMemoryInfo");
        // SAFETY: both pointers lead to numbers.
        assert_eq!(unsafe { ask(0, &mut free, &mut total) }, 0);
        (usize::try_from(free).unwrap(), usize::try_from(total).unwrap())
    };
    assert_eq!(info(), (1024 * MIB, 1024 * MIB), "asked without a context");

    let mut holder = started_holder(state);
    assert_eq!(info().0, (1024 - 64 - 600) * MIB);
    let driver = Driver::with_context();
    assert_eq!(driver.free_bytes(), (1024 - 2 * 64 - 600) * MIB);
    let mut own = 0;
    let ask = driver.symbol::<unsafe extern "C" fn(i32, *mut u64) -> i32>("farpoolSimgpuProcessMemory");
    // SAFETY: the pointer leads to a number.
    assert_eq!((unsafe { ask(0, &mut own) }, own), (0, 64 << 20), "a context and nothing else");
    assert_eq!(driver.allocate(400 * MIB), Err(CUresult::OUT_OF_MEMORY), "true across processes");

    holder.kill().expect("kill -9");
    // Not waited for yet: a zombie holds nothing either.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(driver.free_bytes(), (1024 - 64) * MIB);
    holder.wait().expect("the holder is gone");
    let at = driver.allocate(900 * MIB).expect("all of it is free again");
    assert_eq!(kit::call!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at), CUresult::SUCCESS);

    let mut second = started_holder(state);
    assert_eq!(driver.free_bytes(), (1024 - 2 * 64 - 600) * MIB);
    drop(second.stdin.take());
    second.wait().expect("it ends by itself");
    assert_eq!(driver.free_bytes(), (1024 - 64) * MIB);
    let _ = std::fs::remove_file(state);
}
