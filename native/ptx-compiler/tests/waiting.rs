//! Threads that wait for each other, in every way that compiled code must not get in the way of: each test ends, or says
//! that it never will.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::result_large_err,
    reason = "values are made to fit, and a fault is what the tests look at"
)]

mod kit;

use kit::launch;

const EFFORT: ptx_compiler::Effort = ptx_compiler::Effort::Quick;
use ptx::FaultKind;
use ptx_testing::{Host, kernel};

/// Takes and gives back a lock in `[%rd0]`, and counts in `[%rd0+4]` meanwhile.
const LOCKED_COUNT: &str = "SPIN: atom.global.cas.b32 %r1, [%rd0], 0, 1; setp.ne.s32 %p1, %r1, 0; @%p1 bra SPIN;\
    ld.volatile.global.u32 %r2, [%rd0+4]; add.u32 %r2, %r2, 1; st.volatile.global.u32 [%rd0+4], %r2;\
    membar.gl; atom.global.exch.b32 %r3, [%rd0], 0;";

#[test]
fn a_lock_between_lanes_is_taken_in_turn() {
    let host = Host::new(launch);
    let memory = host.buffer(16, true);
    host.run(&kernel(LOCKED_COUNT), 1, 32, &[memory, 0, 0, 0]).unwrap();
    assert_eq!(host.words(memory, 2), [0, 32]);
}

#[test]
fn a_lock_between_warps_is_taken_in_turn() {
    let host = Host::new(launch);
    let memory = host.buffer(16, true);
    let body = format!("mov.u32 %r4, %laneid; setp.ne.u32 %p2, %r4, 0; @%p2 bra END; {LOCKED_COUNT} END:");
    host.run(&kernel(&body), 1, 512, &[memory, 0, 0, 0]).unwrap();
    assert_eq!(host.words(memory, 2), [0, 16]);
}

#[test]
fn a_lock_between_blocks_is_taken_in_turn() {
    let host = Host::new(launch);
    let memory = host.buffer(16, true);
    let body = format!(
        "mov.u32 %r4, %tid.x; setp.ne.u32 %p2, %r4, 5; @%p2 bra END; {LOCKED_COUNT} END: bar.sync 0;"
    );
    host.run(&kernel(&body), 40, 64, &[memory, 0, 0, 0]).unwrap();
    assert_eq!(host.words(memory, 2), [0, 40]);
}

#[test]
fn a_warp_waits_for_what_another_one_stores() {
    let host = Host::new(launch);
    let memory = host.buffer(4 * 64, true);
    // The first warp spins on shared memory that the second one writes much later.
    let body = ".shared .align 4 .u32 flag; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1;\
        st.shared.u32 [flag], 0; bar.sync 0; setp.ge.u32 %p1, %r0, 32; @%p1 bra LATE;\
        SPIN: ld.volatile.shared.u32 %r1, [flag]; setp.eq.u32 %p2, %r1, 0; @%p2 bra SPIN; st.global.u32 [%rd2], %r1; bra END;\
        LATE: mov.u32 %r3, 0; COUNT: add.u32 %r3, %r3, 1; setp.lt.u32 %p3, %r3, 20000; @%p3 bra COUNT;\
        st.volatile.shared.u32 [flag], %r3; END:";
    host.run(&kernel(body), 1, 64, &[memory, 0, 0, 0]).unwrap();
    assert!(host.words(memory, 32).iter().all(|&word| word == 20000));
}

#[test]
fn producers_and_consumers_meet_at_named_barriers() {
    let host = Host::new(launch);
    let memory = host.buffer(4 * 64, true);
    // Warps 0 and 1 fill a buffer, warps 2 and 3 empty it: barrier 1 says full, barrier 2 says empty.
    let body = ".shared .align 4 .b8 ring[256]; mov.u32 %r0, %tid.x; and.b32 %r1, %r0, 63; shl.b32 %r2, %r1, 2; mov.u32 %r3, ring;\
        add.u32 %r3, %r3, %r2; mov.u32 %r4, 0; mov.u32 %r5, 0; setp.ge.u32 %p1, %r0, 64; @%p1 bra CONSUME;\
        PRODUCE: add.u32 %r6, %r4, %r1; st.shared.u32 [%r3], %r6; bar.arrive 1, 128; bar.sync 2, 128;\
        add.u32 %r4, %r4, 1; setp.lt.u32 %p2, %r4, 50; @%p2 bra PRODUCE; bra END;\
        CONSUME: bar.sync 1, 128; ld.shared.u32 %r6, [%r3]; add.u32 %r5, %r5, %r6; bar.arrive 2, 128;\
        add.u32 %r4, %r4, 1; setp.lt.u32 %p2, %r4, 50; @%p2 bra CONSUME;\
        cvt.u64.u32 %rd1, %r2; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], %r5; END:";
    host.run(&kernel(body), 1, 128, &[memory, 0, 0, 0]).unwrap();
    let expected: Vec<u32> = (0..64).map(|lane| (0..50).map(|step| step + lane).sum()).collect();
    assert_eq!(host.words(memory, 64), expected);
}

#[test]
fn loops_of_different_lengths_end_together_at_a_barrier() {
    let host = Host::new(launch);
    let memory = host.buffer(4 * 128, true);
    let body = ".shared .align 4 .u32 sum; mov.u32 %r0, %tid.x; st.shared.u32 [sum], 0; bar.sync 0; mov.u32 %r1, 0; mov.u32 %r2, 0;\
        MORE: add.u32 %r1, %r1, %r2; add.u32 %r2, %r2, 1; setp.le.u32 %p1, %r2, %r0; @%p1 bra MORE;\
        mov.u32 %r3, sum; atom.shared.add.u32 %r4, [%r3], %r1; bar.sync 0; ld.shared.u32 %r5, [sum];\
        mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], %r5;";
    host.run(&kernel(body), 2, 128, &[memory, 0, 0, 0]).unwrap();
    let expected: u32 = (0..128u32).map(|thread| thread * (thread + 1) / 2).sum();
    assert!(host.words(memory, 128).iter().all(|&word| word == expected));
}

#[test]
fn threads_that_left_are_not_waited_for() {
    let host = Host::new(launch);
    let memory = host.buffer(4 * 160, true);
    // Whole groups, parts of groups and single threads leave before barriers and exchanges.
    let body = "mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1; setp.lt.u32 %p1, %r0, 32; @%p1 exit;\
        bar.sync 0; setp.ge.u32 %p2, %r0, 150; @%p2 exit; bar.sync 0; and.b32 %r1, %r0, 31; setp.eq.u32 %p3, %r1, 7; @%p3 exit;\
        bar.sync 0; vote.sync.ballot.b32 %r2, 1, -1; st.global.u32 [%rd2], %r2;";
    host.run(&kernel(body), 1, 160, &[memory, 0, 0, 0]).unwrap();
    let words = host.words(memory, 160);
    for (thread, &word) in words.iter().enumerate() {
        let expected = match thread {
            _ if !(32..150).contains(&thread) || thread % 32 == 7 => 0,
            128.. => !(1 << 7) & ((1 << 22) - 1),
            _ => !(1 << 7),
        };
        assert_eq!(word, expected, "thread {thread}");
    }
}

#[test]
fn groups_that_never_meet_are_a_deadlock() {
    let host = Host::new(launch);
    let body = "mov.u32 %r0, %tid.x; setp.lt.u32 %p1, %r0, 64; @%p1 bra FIRST; bar.sync 1, 128; bra END; FIRST: bar.sync 2, 128; END:";
    let fault = host.run(&kernel(body), 1, 128, &[0; 4]).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Deadlock { .. }), "{fault:?}");
    assert!(fault.line > 0);
}

#[test]
fn a_barrier_without_the_others_is_a_deadlock() {
    let host = Host::new(launch);
    let body =
        "mov.u32 %r0, %tid.x; setp.ne.u32 %p1, %r0, 17; @%p1 bra END; bar.sync 0, 64; END: bar.sync 1;";
    let fault = host.run(&kernel(body), 1, 64, &[0; 4]).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Deadlock { .. }), "{fault:?}");
}

#[test]
fn a_grid_waits_for_its_last_block() {
    let host = Host::new(launch);
    let memory = host.buffer(64, true);
    let body = "mov.u32 %r0, %tid.x; setp.ne.u32 %p1, %r0, 0; @%p1 bra MEET; atom.global.add.u32 %r1, [%rd0], 1;\
        SPIN: ld.acquire.gpu.global.u32 %r2, [%rd0]; setp.lt.u32 %p2, %r2, 12; @%p2 bra SPIN; MEET: bar.sync 0;\
        red.global.add.u32 [%rd0+4], 1;";
    host.launch(&kernel(body), 12, 96, &[memory, 0, 0, 0], true).unwrap();
    assert_eq!(host.words(memory, 2), [12, 12 * 96]);
}

#[test]
fn a_fault_of_one_lane_names_it() {
    let host = Host::new(launch);
    let memory = host.buffer(4 * 40, true);
    let body =
        "mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], 1;";
    let fault = host.run(&kernel(body), 1, 64, &[memory, 0, 0, 0]).unwrap_err();
    let expected = memory + 160;
    assert!(
        matches!(fault.kind, FaultKind::IllegalAddress { address, size: 4, write: true, .. } if address == expected),
        "{fault:?}"
    );
    assert_eq!(fault.thread, [40, 0, 0]);
    assert_eq!(host.words(memory, 40), [1; 40]);
}

#[test]
fn an_odd_address_is_misaligned() {
    let host = Host::new(launch);
    let memory = host.buffer(512, true);
    let body = "mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 8; add.s64 %rd2, %rd0, %rd1; ld.global.u64 %rd3, [%rd2+4];";
    let fault = host.run(&kernel(body), 1, 32, &[memory, 0, 0, 0]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::MisalignedAddress { address: memory + 4, size: 8 });
}
