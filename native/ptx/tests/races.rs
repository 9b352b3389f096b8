//! Races in shared memory: those that are one are reported, and nothing else is.

#![allow(clippy::result_large_err, reason = "a fault is what the test looks at")]

use std::cell::RefCell;

use ptx::{AccessKind, Device, Fault, Function, LaunchConfig, LaunchStats, Module, Race, Races};
use ptx_testing::{Host, kernel};

thread_local! {
    static FOUND: RefCell<Races> = RefCell::default();
}

fn watched(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
) -> Result<LaunchStats, Fault> {
    let mut races = Races::default();
    let result = ptx::launch_watched(module, function, config, device, &mut races);
    FOUND.set(races);
    result
}

/// What is found in two blocks of 96 threads that run `body`, in which %r0 is the thread's number, %r4 the address of
/// its word in `tile`, %r5 that of the word of the thread a warp further, in a circle, and `flag` one more word. %p1 says
/// whether it belongs to the first warp, %p2 to the second.
fn races(body: &str) -> Races {
    let host = Host::new(watched);
    let out = host.buffer(64, true);
    let body = format!(
        ".shared .align 8 .b64 full; .shared .align 4 .b8 tile[384]; .shared .align 4 .u32 flag;\nmov.u32 %r0, %tid.x;\
         mov.u32 %r1, tile; shl.b32 %r4, %r0, 2; add.u32 %r4, %r1, %r4; add.u32 %r5, %r0, 32; rem.u32 %r5, %r5, 96;\
         shl.b32 %r5, %r5, 2; add.u32 %r5, %r1, %r5; setp.lt.u32 %p1, %r0, 32; shr.u32 %r6, %r0, 5;\
         setp.eq.u32 %p2, %r6, 1;\n{body}"
    );
    host.run(&kernel(&body), 2, 96, &[out, 0, 0, 0]).unwrap();
    FOUND.take()
}

fn only(races: &Races) -> &Race {
    assert_eq!(races.shown.len(), 1, "{:?}", races.shown);
    &races.shown[0]
}

/// PTX line of the body's first line.
const LINE: u32 = 10;

#[track_caller]
fn expect_silence(body: &str) {
    let races = races(body);
    assert_eq!((races.accesses, &races.shown[..]), (0, &[][..]));
}

#[test]
fn a_missing_barrier_is_reported_with_both_lines() {
    let found = races("st.shared.u32 [%r4], %r0;\nld.shared.u32 %r7, [%r5];");
    // The first warp reads what the second has not written yet; the last one reads what the first has written.
    assert_eq!(found.shown.len(), 2);
    let after = |kind| found.shown.iter().find(|race| race.second.kind == kind).unwrap();
    let early = after(AccessKind::Write);
    assert_eq!((early.first.line, early.second.line), (LINE + 1, LINE));
    assert_eq!((early.first.thread, early.second.thread), ([0, 0, 0], [32, 0, 0]));
    let late = after(AccessKind::Read);
    assert_eq!((late.first.line, late.second.line), (LINE, LINE + 1));
    assert_eq!((late.first.thread, late.second.thread), ([0, 0, 0], [64, 0, 0]));
    assert_eq!(found.accesses, 2 * 96);
    let block = late.block;
    assert_eq!(
        late.to_string(),
        format!(
            "race in kernel k: read after write at shared 0x0 (tile) in block {block:?}: a barrier is missing between \
             the write by thread [0, 0, 0] at PTX line 10 and the read by thread [64, 0, 0] at PTX line 11"
        )
    );
    assert!(early.place.starts_with("tile + 128"), "{}", early.place);
}

#[test]
fn with_the_barrier_nothing_is_reported() {
    for barrier in ["bar.sync 0;", "barrier.sync 3, 96;", "bar.red.popc.u32 %r8, 1, %p1;"] {
        expect_silence(&format!("st.shared.u32 [%r4], %r0;\n{barrier}\nld.shared.u32 %r7, [%r5];"));
    }
}

#[test]
fn the_second_barrier_of_a_loop_is_missed_too() {
    let step = |barrier: &str| {
        format!(
            "mov.u32 %r9, 0; LOOP: st.shared.u32 [%r4], %r9;\nbar.sync 0; ld.shared.u32 %r7, [%r5];\n{barrier}\
             add.u32 %r9, %r9, 1; setp.lt.u32 %p3, %r9, 4; @%p3 bra LOOP;"
        )
    };
    let found = races(&step(""));
    let race = found.shown.iter().find(|race| race.second.kind == AccessKind::Write).unwrap();
    assert_eq!((race.first.kind, race.first.line, race.second.line), (AccessKind::Read, LINE + 1, LINE));
    expect_silence(&step("bar.sync 0;"));
}

#[test]
fn writes_of_two_warps_race_even_with_the_same_value() {
    let found = races("st.shared.u32 [flag], 1;");
    let race = only(&found);
    assert_eq!((race.first.kind, race.second.kind), (AccessKind::Write, AccessKind::Write));
    assert_eq!((race.place.as_str(), race.first.line, race.second.line), ("flag", LINE, LINE));
}

#[test]
fn bytes_of_one_word_are_told_apart() {
    let own = "add.u32 %r7, %r1, %r6;";
    expect_silence(&format!("{own} st.shared.u8 [%r7], %r0; ld.shared.u8 %r8, [%r7];"));
    let found = races(&format!("{own} st.shared.u8 [%r7], %r0;\nld.shared.u16 %r8, [tile+2];"));
    assert_eq!(only(&found).place, "tile + 2");
}

#[test]
fn generic_addresses_and_asynchronous_copies_count() {
    let found = races("cvt.u64.u32 %rd1, %r1; cvta.shared.u64 %rd1, %rd1; st.u32 [%rd1+4], %r0;");
    assert_eq!(only(&found).place, "tile + 4");
    let found = races("cp.async.ca.shared.global [tile], [%rd0], 16;");
    assert_eq!(only(&found).second.kind, AccessKind::Write);
}

#[test]
fn dynamic_shared_memory_has_no_name() {
    let source = kernel("mov.u32 %r1, pool; st.shared.u32 [%r1+8], 1;")
        .replace(".visible", ".extern .shared .align 4 .b8 pool[];\n.visible");
    Host::new(watched).run(&source, 1, 64, &[0; 4]).unwrap();
    assert_eq!(only(&FOUND.take()).place, "dynamic shared memory + 8");
}

#[test]
fn atomics_race_with_plain_writes_only() {
    expect_silence("red.shared.add.u32 [flag], 1; atom.shared.add.u32 %r7, [flag], 1;");
    let found = races("st.shared.u32 [%r4], 0;\nred.shared.add.u32 [tile], 1;");
    assert_eq!(only(&found).second.kind, AccessKind::Atomic);
    expect_silence("st.shared.u32 [%r4], 0; bar.sync 0; red.shared.add.u32 [tile], 1;");
}

#[test]
fn what_a_warp_does_is_its_own_affair() {
    expect_silence(
        "xor.b32 %r7, %r4, 4; st.shared.u32 [%r4], %r0; bar.warp.sync -1; ld.shared.u32 %r8, [%r7]; bar.warp.sync -1;\
         st.shared.u32 [%r7], %r8;",
    );
}

#[test]
fn volatile_flags_order_what_they_guard() {
    let wait = "SPIN: ld.volatile.shared.u32 %r7, [flag]; setp.eq.u32 %p3, %r7, 1; @!%p3 bra SPIN;";
    let body = |fence: &str, store: &str| {
        format!(
            "setp.eq.u32 %p4, %r0, 0; @%p4 st.volatile.shared.u32 [flag], 0; bar.sync 0; @%p2 bra WAIT; @!%p4 bra END;\
             st.shared.u32 [tile], 7; {fence} {store} bra END; WAIT: {wait} ld.shared.u32 %r8, [tile]; END:"
        )
    };
    expect_silence(&body("membar.cta;", "st.volatile.shared.u32 [flag], 1;"));
    expect_silence(&body("", "st.release.cta.shared.u32 [flag], 1;"));
    expect_silence(&body("", "st.volatile.shared.u32 [flag], 1;"));
    expect_silence(&body("fence.acq_rel.cta;", "red.shared.add.u32 [flag], 1;"));
    expect_silence(&body("", "red.release.cta.shared.add.u32 [flag], 1;"));
    expect_silence(&body("", "atom.shared.exch.b32 %r9, [flag], 1;"));
    assert_eq!(only(&races(&body("", "red.shared.add.u32 [flag], 1;"))).place, "tile");
}

#[test]
fn a_lock_orders_what_it_guards() {
    expect_silence(
        "@%p1 st.shared.u32 [flag], 0; bar.sync 0; SPIN: atom.shared.cas.b32 %r7, [flag], 0, 1; setp.ne.u32 %p3, %r7, 0;\
         @%p3 bra SPIN; ld.shared.u32 %r8, [tile]; add.u32 %r8, %r8, 1; st.shared.u32 [tile], %r8;\
         atom.shared.exch.b32 %r7, [flag], 0;",
    );
}

#[test]
fn named_barriers_order_producers_and_consumers() {
    expect_silence(
        "@%p2 bra CONSUME; @!%p1 bra END; st.shared.u32 [%r4], 1; barrier.arrive 1, 64; barrier.sync 2, 64;\
         st.shared.u32 [%r4], 2; barrier.arrive 1, 64; bra END;\
         CONSUME: sub.u32 %r7, %r4, 128; barrier.sync 1, 64; ld.shared.u32 %r8, [%r7]; barrier.arrive 2, 64;\
         barrier.sync 1, 64; ld.shared.u32 %r8, [%r7]; END:",
    );
}

#[test]
fn phases_of_barriers_in_memory_order_producers_and_consumers() {
    let body = |wait: &str| {
        format!(
            "setp.eq.u32 %p4, %r0, 0; @%p4 mbarrier.init.shared.b64 [full], 32; bar.sync 0; @%p2 bra CONSUME;\
             @!%p1 bra END; st.shared.u32 [%r4], 1; mbarrier.arrive.shared.b64 %rd5, [full]; bra END;\
             CONSUME: {wait} sub.u32 %r7, %r4, 128; ld.shared.u32 %r8, [%r7]; END:"
        )
    };
    expect_silence(&body("WAIT: mbarrier.test_wait.parity.shared.b64 %p3, [full], 0; @!%p3 bra WAIT;"));
}

#[test]
fn all_that_is_shown_has_lines_of_its_own() {
    let found =
        races(&(0..6).map(|word| format!("st.shared.u32 [tile+{}], 1;\n", 4 * word)).collect::<String>());
    assert_eq!(
        (found.shown.len(), found.accesses),
        (4, 2 * 2 * 6),
        "both blocks, and two warps after the first"
    );
}

#[test]
fn a_fault_leaves_what_was_found() {
    let host = Host::new(watched);
    let source = kernel(".shared .u32 flag;\nst.shared.u32 [flag], 1; bar.sync 0; trap;");
    assert!(host.run(&source, 1, 64, &[0; 4]).is_err());
    assert_eq!(only(&FOUND.take()).place, "flag");
}
