//! FARPOOL_SIMGPU_RACES=1: races are told on stderr, and the launch succeeds.

mod kit;

use std::process::Stdio;

use cuda_abi::*;
use kit::{Driver, state_path};

/// Each thread writes its word and reads the one of a thread two warps away.
const EXCHANGE: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry exchange(.param .u64 at, .param .u32 value)
{
  .reg .b64 %rd<3>;
  .reg .b32 %r<6>;
  .shared .align 4 .b8 tile[512];
  ld.param.u64 %rd1, [at];
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 2;
  mov.u32 %r3, tile;
  add.u32 %r2, %r2, %r3;
  st.shared.u32 [%r2], %r1;
  // barrier
  xor.b32 %r4, %r2, 256;
  ld.shared.u32 %r5, [%r4];
  st.global.u32 [%rd1], %r5;
  ret;
}
";

/// Runs a case that the environment names; as a test of its own it has none.
#[test]
fn run_case() {
    let source = match std::env::var("SIMGPU_TEST_CASE").as_deref() {
        Ok("racing" | "unwatched") => EXCHANGE.to_owned(),
        Ok("ordered") => EXCHANGE.replace("// barrier", "bar.sync 0;"),
        Ok(other) => panic!("no case {other}"),
        Err(_) => return,
    };
    let driver = Driver::with_context();
    let module = driver.load_module(&source).expect("the module loads");
    let function = driver.function(module, "exchange").expect("it has the kernel");
    let at = driver.allocate(4).expect("memory");
    let launched = driver.launch(function, [1, 1, 1], [128, 1, 1], at, 0, CUstream::NULL);
    assert_eq!((launched, driver.synchronize()), (CUresult::SUCCESS, CUresult::SUCCESS));
}

/// What a case says on stderr about races.
fn complaints(case: &str, setting: &str) -> Vec<String> {
    let binary = std::env::current_exe().expect("the test knows its own path");
    let output = std::process::Command::new(binary)
        .args(["--exact", "run_case", "--nocapture"])
        .env("SIMGPU_TEST_CASE", case)
        .env("FARPOOL_SIMGPU_STATE", state_path(case))
        .env("FARPOOL_SIMGPU_RACES", setting)
        .stdin(Stdio::null())
        .output()
        .expect("the test starts itself");
    let _ = std::fs::remove_file(state_path(case));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {text}");
    text.lines().filter(|line| line.starts_with("farpool simulated GPU: race")).map(str::to_owned).collect()
}

#[test]
fn a_race_is_told_on_stderr() {
    let told = complaints("racing", "1");
    assert_eq!(
        told,
        [
            "farpool simulated GPU: race in kernel exchange: write after read at shared 0x100 (tile + 256) in block \
             [0, 0, 0]: a barrier is missing between the read by thread [0, 0, 0] at PTX line 18 and the write by thread \
             [64, 0, 0] at PTX line 15",
            "farpool simulated GPU: race in kernel exchange: read after write at shared 0x0 (tile) in block [0, 0, 0]: a \
             barrier is missing between the write by thread [0, 0, 0] at PTX line 15 and the read by thread [64, 0, 0] at \
             PTX line 18",
            "farpool simulated GPU: races in kernel exchange: 128 accesses in all",
        ]
    );
}

#[test]
fn silence_means_a_barrier_or_no_wish_to_know() {
    assert!(complaints("ordered", "1").is_empty());
    assert!(complaints("unwatched", "0").is_empty());
}
