//! Whole kernels: barriers, warps, calls, memory faults, scheduling.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::result_large_err,
    reason = "values are made to fit, and a fault is what the test looks at"
)]

// Tests of other engines include this file and have a `launch` of their own.
#[allow(unused_imports, reason = "used where this file is the whole program")]
use ptx::launch;
use ptx::{FaultKind, Module};
use ptx_testing::{Host, kernel};

fn host() -> Host {
    Host::new(crate::launch)
}

fn parse(body: &str) -> Module {
    Module::parse(&kernel(body)).unwrap()
}

const GLOBAL_INDEX: &str = "mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mad.lo.s32 %r3, %r1, %r2, %r0;\
     mul.wide.u32 %rd1, %r3, 4; add.s64 %rd2, %rd0, %rd1;";

#[test]
fn every_thread_of_every_block_runs() {
    let host = host();
    let out = host.buffer(4 * 1000, true);
    let stats = host
        .run(&kernel(&format!("{GLOBAL_INDEX} st.global.u32 [%rd2], %r3;")), 10, 100, &[out, 0, 0, 0])
        .unwrap();
    assert_eq!(host.words(out, 1000), (0..1000).collect::<Vec<u32>>());
    assert_eq!((stats.blocks, stats.threads), (10, 1000));
}

#[test]
fn barrier_makes_shared_writes_visible() {
    let host = host();
    let out = host.buffer(4 * 256, true);
    let body = format!(
        ".shared .align 4 .b8 tile[1024]; {GLOBAL_INDEX} mov.u32 %r4, tile; shl.b32 %r5, %r0, 2; add.u32 %r6, %r4, %r5;\
         st.shared.u32 [%r6], %r0; bar.sync 0; sub.u32 %r7, 255, %r0; shl.b32 %r7, %r7, 2; add.u32 %r7, %r4, %r7;\
         ld.shared.u32 %r8, [%r7]; st.global.u32 [%rd2], %r8;"
    );
    host.run(&kernel(&body), 1, 256, &[out, 0, 0, 0]).unwrap();
    assert_eq!(host.words(out, 256), (0..256).rev().collect::<Vec<u32>>());
}

#[test]
fn barrier_does_not_wait_for_exited_threads() {
    let host = host();
    let out = host.buffer(4 * 64, true);
    let body =
        format!("{GLOBAL_INDEX} setp.ge.u32 %p1, %r0, 40; @%p1 exit; bar.sync 0; st.global.u32 [%rd2], 7;");
    host.run(&kernel(&body), 1, 64, &[out, 0, 0, 0]).unwrap();
    let words = host.words(out, 64);
    assert!(words[..40].iter().all(|&word| word == 7) && words[40..].iter().all(|&word| word == 0));
}

#[test]
fn barrier_reduction_counts_predicates() {
    let host = host();
    let out = host.buffer(4 * 96, true);
    let body = format!(
        "{GLOBAL_INDEX} setp.lt.u32 %p1, %r0, 10; bar.red.popc.u32 %r5, 1, %p1; bar.red.and.pred %p2, 2, %p1;\
         bar.red.or.pred %p3, 2, %p1; selp.u32 %r6, 100, 0, %p2; selp.u32 %r7, 1000, 0, %p3; add.u32 %r5, %r5, %r6;\
         add.u32 %r5, %r5, %r7; st.global.u32 [%rd2], %r5;"
    );
    host.run(&kernel(&body), 1, 96, &[out, 0, 0, 0]).unwrap();
    assert!(host.words(out, 96).iter().all(|&word| word == 1010));
}

#[test]
fn named_barriers_hand_over_between_warps() {
    let host = host();
    let out = host.buffer(4 * 64, true);
    let body = format!(
        ".shared .align 4 .u32 cell; {GLOBAL_INDEX} setp.ge.u32 %p1, %r0, 32; @%p1 bra CONSUME;\
         st.shared.u32 [cell], 5; bar.arrive 3, 64; bra DONE;\
         CONSUME: bar.sync 3, 64; ld.shared.u32 %r4, [cell]; st.global.u32 [%rd2], %r4; DONE:"
    );
    host.run(&kernel(&body), 1, 64, &[out, 0, 0, 0]).unwrap();
    assert!(host.words(out, 64)[32..].iter().all(|&word| word == 5));
}

#[test]
fn shuffles_follow_the_specification() {
    let host = host();
    let out = host.buffer(4 * 32 * 4, true);
    let body = "mov.u32 %r0, %laneid; mul.wide.u32 %rd1, %r0, 16; add.s64 %rd2, %rd0, %rd1;\
        shfl.sync.down.b32 %r1|%p1, %r0, 4, 31, -1; shfl.sync.up.b32 %r2, %r0, 1, 0, -1;\
        shfl.sync.bfly.b32 %r3, %r0, 1, 31, -1; shfl.sync.idx.b32 %r4, %r0, 2, 0x181f, -1;\
        selp.u32 %r5, 100, 0, %p1; add.u32 %r1, %r1, %r5; st.global.v4.u32 [%rd2], {%r1, %r2, %r3, %r4};";
    host.run(&kernel(body), 1, 32, &[out, 0, 0, 0]).unwrap();
    for (lane, row) in host.words(out, 128).chunks(4).enumerate() {
        let lane = lane as u32;
        let down = if lane < 28 { lane + 4 + 100 } else { lane };
        // Width 8: segment mask 0x18, so lane 2 of each group of eight.
        assert_eq!(row, [down, lane.saturating_sub(1), lane ^ 1, lane & 0x18 | 2]);
    }
}

#[test]
fn warp_votes_matches_and_reductions() {
    let host = host();
    let out = host.buffer(4 * 32 * 4, true);
    let body = "mov.u32 %r0, %laneid; mul.wide.u32 %rd1, %r0, 16; add.s64 %rd2, %rd0, %rd1; setp.lt.u32 %p1, %r0, 3;\
        vote.sync.ballot.b32 %r1, %p1, -1; and.b32 %r6, %r0, 1; match.any.sync.b32 %r2, %r6, -1;\
        redux.sync.add.s32 %r3, %r0, -1; vote.sync.any.pred %p2, %p1, -1; vote.sync.all.pred %p3, %p1, -1;\
        selp.u32 %r4, 1, 0, %p2; selp.u32 %r5, 2, 0, %p3; or.b32 %r4, %r4, %r5;\
        st.global.v4.u32 [%rd2], {%r1, %r2, %r3, %r4};";
    host.run(&kernel(body), 1, 32, &[out, 0, 0, 0]).unwrap();
    for (lane, row) in host.words(out, 128).chunks(4).enumerate() {
        assert_eq!(row, [7, if lane % 2 == 0 { 0x5555_5555 } else { 0xaaaa_aaaa }, 496, 1]);
    }
}

#[test]
fn divergent_halves_of_a_warp_sync_on_their_own_masks() {
    let host = host();
    let out = host.buffer(4 * 32, true);
    let body = format!(
        "{GLOBAL_INDEX} setp.lt.u32 %p1, %r0, 16; @%p1 bra LOW; redux.sync.add.u32 %r5, %r0, 0xffff0000; bra END;\
         LOW: redux.sync.add.u32 %r5, %r0, 0x0000ffff; END: bar.warp.sync -1; st.global.u32 [%rd2], %r5;"
    );
    host.run(&kernel(&body), 1, 32, &[out, 0, 0, 0]).unwrap();
    let words = host.words(out, 32);
    assert!(words[..16].iter().all(|&word| word == 120) && words[16..].iter().all(|&word| word == 376));
}

#[test]
fn active_mask_is_the_converged_lanes() {
    let host = host();
    let out = host.buffer(4 * 32, true);
    let body = format!(
        "{GLOBAL_INDEX} setp.lt.u32 %p1, %r0, 5; @!%p1 bra END; activemask.b32 %r4; st.global.u32 [%rd2], %r4; END:"
    );
    host.run(&kernel(&body), 1, 32, &[out, 0, 0, 0]).unwrap();
    assert_eq!(host.words(out, 6), [31, 31, 31, 31, 31, 0]);
}

#[test]
fn divergent_spin_lock_ends() {
    let host = host();
    let memory = host.buffer(16, true);
    // Every lane takes the same lock: with lockstep execution this never ends.
    let body = "SPIN: atom.global.cas.b32 %r1, [%rd0], 0, 1; setp.ne.s32 %p1, %r1, 0; @%p1 bra SPIN;\
        ld.volatile.global.u32 %r2, [%rd0+4]; add.u32 %r2, %r2, 1; st.volatile.global.u32 [%rd0+4], %r2;\
        membar.gl; atom.global.exch.b32 %r3, [%rd0], 0;";
    host.run(&kernel(body), 4, 128, &[memory, 0, 0, 0]).unwrap();
    assert_eq!(host.words(memory, 2), [0, 512]);
}

#[test]
fn atomics_count_across_blocks() {
    let host = host();
    let memory = host.buffer(64, true);
    let body = "mov.u32 %r0, %tid.x; red.global.add.u32 [%rd0], 1; atom.global.inc.u32 %r1, [%rd0+4], 9;\
        red.global.max.s32 [%rd0+8], %r0; red.global.add.f32 [%rd0+12], 0f3F000000; red.global.add.u64 [%rd0+16], 3;\
        atom.global.dec.u32 %r2, [%rd0+24], 4; red.global.add.f64 [%rd0+32], 0d3FF0000000000000;";
    host.run(&kernel(body), 20, 100, &[memory, 0, 0, 0]).unwrap();
    let words = host.words(memory, 10);
    assert_eq!(words[..5], [2000, 0, 99, 1000f32.to_bits(), 6000]);
    assert_eq!(words[6], 0);
    assert_eq!(u64::from(words[8]) | u64::from(words[9]) << 32, 2000f64.to_bits());
}

#[test]
fn cooperative_grid_barrier_works() {
    let host = host();
    let memory = host.buffer(4 * 80, true);
    // What cooperative groups do: the workspace address comes in envreg1 and envreg2.
    let body = "mov.u32 %r1, %envreg2; mov.u32 %r2, %envreg1; mov.b64 %rd3, {%r1, %r2}; mov.u32 %r3, %ctaid.x;\
        mul.wide.u32 %rd4, %r3, 4; add.u64 %rd5, %rd0, %rd4; st.global.u32 [%rd5], 1; membar.gl;\
        atom.add.release.gpu.u32 %r4, [%rd3+4], 1; SPIN: ld.acquire.gpu.u32 %r5, [%rd3+4]; setp.lt.u32 %p1, %r5, 40;\
        @%p1 bra SPIN; sub.u32 %r6, 39, %r3; mul.wide.u32 %rd4, %r6, 4; add.u64 %rd6, %rd0, %rd4;\
        ld.global.u32 %r7, [%rd6]; st.global.u32 [%rd5+160], %r7;";
    host.launch(&kernel(body), 40, 1, &[memory, 0, 0, 0], true).unwrap();
    assert!(host.words(memory, 80).iter().all(|&word| word == 1));
}

#[test]
fn a_block_may_wait_for_a_later_one() {
    let host = host();
    let memory = host.buffer(8, true);
    let body = "mov.u32 %r0, %ctaid.x; setp.eq.u32 %p1, %r0, 7; @%p1 st.volatile.global.u32 [%rd0], 1; @%p1 bra END;\
        SPIN: ld.volatile.global.u32 %r1, [%rd0]; setp.eq.u32 %p2, %r1, 0; @%p2 bra SPIN; END:";
    host.run(&kernel(body), 8, 1, &[memory, 0, 0, 0]).unwrap();
}

#[test]
fn functions_return_structures_and_recurse() {
    let source = ".version 8.0\n.target sm_80\n.address_size 64\n\
        .func (.param .b32 result) factorial (.param .b32 n) {\n.reg .b32 %r<5>; .reg .pred %p<2>;\n\
        ld.param.u32 %r0, [n]; setp.gt.u32 %p0, %r0, 1; @%p0 bra MORE; st.param.b32 [result+0], 1; ret;\n\
        MORE: sub.u32 %r1, %r0, 1;\n{ .param .b32 param0; st.param.b32 [param0+0], %r1; .param .b32 retval0;\n\
        call.uni (retval0), factorial, (param0); ld.param.b32 %r2, [retval0+0]; }\n\
        mul.lo.u32 %r3, %r0, %r2; st.param.b32 [result], %r3; ret; }\n\
        .func (.param .align 8 .b8 pair[16]) twice (.param .b64 x) { .reg .b64 %rd<3>; ld.param.u64 %rd0, [x];\n\
        st.param.b64 [pair], %rd0; add.u64 %rd1, %rd0, %rd0; st.param.b64 [pair+8], %rd1; ret; }\n\
        .global .align 8 .u64 table[2] = {factorial, twice};\n\
        .visible .entry k(.param .u64 out) { .reg .b32 %r<5>; .reg .b64 %rd<9>;\n ld.param.u64 %rd0, [out];\n\
        { .param .b32 param0; st.param.b32 [param0], 6; .param .b32 retval0; call (retval0), factorial, (param0);\n\
        ld.param.b32 %r0, [retval0]; }\n\
        { .param .b64 param0; st.param.b64 [param0], 21; .param .align 16 .b8 retval0[16]; ld.global.u64 %rd1, [table+8];\n\
        proto : .callprototype (.param .align 8 .b8 _[16]) _ (.param .b64 _);\n\
        call (retval0), %rd1, (param0), proto; ld.param.v2.b64 {%rd2, %rd3}, [retval0]; }\n\
        st.global.u32 [%rd0], %r0; st.global.v2.u64 [%rd0+16], {%rd2, %rd3}; ret; }\n";
    let host = host();
    let out = host.buffer(32, true);
    host.run(source, 1, 1, &[out]).unwrap();
    let words = host.words(out, 8);
    assert_eq!((words[0], words[4], words[6]), (720, 21, 42));
}

#[test]
fn endless_recursion_is_a_fault() {
    let source = ".version 8.0\n.target sm_80\n.address_size 64\n.func f () { call f, (); ret; }\n\
        .entry k() { call f, (); ret; }";
    let fault = host().run(source, 1, 1, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::StackOverflow);
    assert_eq!(fault.function, "f");
}

#[test]
fn indirect_call_of_nonsense_is_a_fault() {
    let body = "mov.u64 %rd1, 0x1234; { proto : .callprototype _ (); call %rd1, (), proto; }";
    let fault = host().run(&kernel(body), 1, 1, &[0; 4]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidPc { address: 0x1234 });
}

#[test]
fn accesses_outside_memory_are_faults() {
    let host = host();
    let memory = host.buffer(64, true);
    let read_only = host.buffer(64, false);
    let run = |body: &str, address: u64| host.run(&kernel(body), 1, 1, &[address, 0, 0, 0]).unwrap_err();
    let fault = run("\n\nld.global.u32 %r1, [%rd0+64];", memory);
    let nearest = Some(ptx::MemoryRange { start: memory, end: memory + 64, writable: true });
    let kind =
        FaultKind::IllegalAddress { address: memory + 64, size: 4, write: false, space: "global", nearest };
    assert_eq!(fault.kind, kind);
    let text = format!("a read of 4 bytes in global memory, right behind the 64 bytes at {memory:#x}");
    assert!(fault.to_string().contains(&text), "{fault}");
    assert_eq!((fault.line, fault.function.as_str()), (10, "k"));
    for body in [
        "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0-16];",
        "st.u64 [%rd0+0x7fffffffffffffff], 1;",
        "ld.u8 %r1, [0];",
        "ld.shared.u32 %r1, [1024];",
        "ld.shared.u32 %r1, [-4];",
        "ld.local.u8 %r1, [0];",
        "ld.param.u64 %rd1, [p0+32];",
        "mov.u64 %rd1, 0xfffffffffffffff8; ld.u64 %rd2, [%rd1];",
        "mov.u64 %rd1, 0x1000000001000; ld.u64 %rd2, [%rd1];",
        "mov.u64 %rd1, 0x10000; add.u64 %rd1, %rd1, %rd0; atom.add.u32 %r1, [%rd1], 1;",
        "mov.u64 %rd1, 8; cvta.param.u64 %rd1, %rd1; st.u32 [%rd1], 1;",
    ] {
        let fault = run(body, memory);
        assert!(
            matches!(fault.kind, FaultKind::IllegalAddress { .. } | FaultKind::MisalignedAddress { .. }),
            "{body}: {fault}"
        );
    }
    let fault = run("st.global.u32 [%rd0], 1;", read_only);
    assert!(matches!(fault.kind, FaultKind::IllegalAddress { write: true, .. }));
    let fault = run("ld.global.u32 %r1, [%rd0+2];", memory);
    assert_eq!(fault.kind, FaultKind::MisalignedAddress { address: memory + 2, size: 4 });
}

#[test]
fn generic_addresses_reach_every_space() {
    let host = host();
    let out = host.buffer(32, true);
    let body = ".shared .align 8 .b8 s[8]; .local .align 8 .b8 l[8]; mov.u64 %rd1, s; cvta.shared.u64 %rd1, %rd1;\
        mov.u64 %rd2, l; cvta.local.u64 %rd2, %rd2; st.u32 [%rd1], 1; st.u32 [%rd2+4], 2; ld.shared.u32 %r1, [s];\
        ld.local.u32 %r2, [l+4]; mov.b64 %rd3, p1; cvta.param.u64 %rd3, %rd3; ld.u32 %r3, [%rd3]; atom.add.u32 %r4, [%rd1], 4;\
        ld.u32 %r4, [%rd1]; isspacep.shared %p1, %rd1; isspacep.global %p2, %rd0; isspacep.local %p3, %rd1;\
        selp.u32 %r5, 1, 0, %p1; selp.u32 %r6, 2, 0, %p2; selp.u32 %r7, 4, 0, %p3; add.u32 %r5, %r5, %r6; add.u32 %r5, %r5, %r7;\
        st.global.v4.u32 [%rd0], {%r1, %r2, %r3, %r4}; st.global.u32 [%rd0+16], %r5;";
    host.run(&kernel(body), 1, 1, &[out, 77, 0, 0]).unwrap();
    assert_eq!(host.words(out, 5), [1, 2, 77, 5, 3]);
}

#[test]
fn dynamic_shared_memory_follows_static() {
    let source = kernel(
        ".shared .align 4 .b8 fixed[20]; mov.u32 %r1, dynamic; mov.u32 %r2, fixed; st.shared.u32 [%r1+1020], 5;\
         mov.u32 %r3, %dynamic_smem_size; st.global.v2.u32 [%rd0], {%r1, %r3}; st.shared.u32 [%r2+16], 1;",
    )
    .replace(".visible", ".extern .shared .align 16 .b8 dynamic[];\n.visible");
    let module = Module::parse(&source).unwrap();
    assert!(module.entry("k").unwrap().uses_dynamic_shared);
    assert_eq!(module.entry("k").unwrap().static_shared_bytes, 20);
    let host = host();
    let out = host.buffer(8, true);
    host.run(&source, 1, 1, &[out, 0, 0, 0]).unwrap();
    assert_eq!(host.words(out, 2), [32, 1024]);
}

#[test]
fn reserved_shared_memory_is_none_of_the_kernels_own() {
    let source = kernel(
        ".shared .align 4 .b8 fixed[20]; mov.u32 %r1, fixed; mov.u32 %r2, dynamic; st.shared.u32 [%r1], 11; st.shared.u32 [%r1+16], 12;\
         st.shared.u32 [%r2], 13; st.shared.u32 [%r2+1020], 14; call fill, ();\
         ld.shared.u32 %r3, [%r1]; ld.shared.u32 %r4, [%r1+16]; ld.shared.u32 %r5, [%r2]; ld.shared.u32 %r6, [%r2+1020];\
         st.global.v4.u32 [%rd0], {%r3, %r4, %r5, %r6};\
         mov.u32 %r7, %reserved_smem_offset_begin; mov.u32 %r8, %reserved_smem_offset_end; sub.u32 %r8, %r8, %r7;\
         mov.u32 %r9, %reserved_smem_offset_cap; mov.u32 %r10, %total_smem_size; mov.u32 %r11, %aggr_smem_size;\
         st.global.v4.u32 [%rd0+16], {%r8, %r9, %r10, %r11};\
         mov.u32 %r12, %reserved_smem_offset_0; sub.u32 %r12, %r12, %r7; mov.u32 %r13, %reserved_smem_offset_1; sub.u32 %r13, %r13, %r7;\
         st.global.v2.u32 [%rd0+32], {%r12, %r13};",
    )
    .replace(
        ".visible",
        ".extern .shared .align 16 .b8 dynamic[];\n.func fill() { .reg .pred %p<2>; .reg .b32 %r<3>;\
         mov.u32 %r1, %reserved_smem_offset_begin; mov.u32 %r2, %reserved_smem_offset_end;\
         FILL: st.shared.u32 [%r1], -1; add.u32 %r1, %r1, 4; setp.lt.u32 %p1, %r1, %r2; @%p1 bra FILL; ret; }\n.visible",
    );
    let module = Module::parse(&source).unwrap();
    assert_eq!(module.entry("k").unwrap().static_shared_bytes, 20);
    let host = host();
    let out = host.buffer(40, true);
    host.run(&source, 1, 1, &[out, 0, 0, 0]).unwrap();
    let words = host.words(out, 10);
    assert_eq!(words[..8], [11, 12, 13, 14, 1024, 1024, 32 + 1024, 32 + 2048]);
    // Cooperative groups need 288 bytes from the second offset on, aligned to 8.
    assert!(words[8] < 1024 && words[9] <= 1024 - 288 && words[9].is_multiple_of(8), "{words:?}");

    let beyond = source.replace("[%r2+1020], 14", "[%r2+1024], 14");
    let fault = host.run(&beyond, 1, 1, &[out, 0, 0, 0]).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::IllegalAddress { space: "shared", size: 4, .. }), "{fault:?}");
}

#[test]
fn variables_have_initializers_and_relocations() {
    let source = kernel(
        "ld.global.u64 %rd1, [pointer]; ld.u32 %r1, [%rd1]; ld.const.f32 %f1, [c+4]; st.global.u32 [%rd0], %r1; st.global.f32 [%rd0+4], %f1;",
    )
    .replace(".visible", ".global .align 4 .u32 values[3] = {7, 8, -9};\n.global .align 8 .u64 pointer = generic(values)+8;\n.const .f32 c[2] = {1.5, 0f40200000};\n.visible");
    let module = Module::parse(&source).unwrap();
    assert_eq!(module.variables().len(), 3);
    assert_eq!(module.variables()[1].relocations[0].addend, 8);
    let host = host();
    let out = host.buffer(8, true);
    host.run(&source, 1, 1, &[out, 0, 0, 0]).unwrap();
    assert_eq!(host.words(out, 2), [-9i32 as u32, 2.5f32.to_bits()]);
}

#[test]
fn branch_tables_jump() {
    let host = host();
    let out = host.buffer(16, true);
    let body = format!(
        "{GLOBAL_INDEX} ts: .branchtargets A, B, C; brx.idx %r0, ts; A: mov.u32 %r5, 10; bra END; B: mov.u32 %r5, 20; bra END;\
         C: mov.u32 %r5, 30; END: st.global.u32 [%rd2], %r5;"
    );
    host.run(&kernel(&body), 1, 3, &[out, 0, 0, 0]).unwrap();
    assert_eq!(host.words(out, 3), [10, 20, 30]);
    let fault = host.run(&kernel(&body), 1, 4, &[out, 0, 0, 0]).unwrap_err();
    assert_eq!((fault.kind, fault.thread), (FaultKind::InvalidPc { address: 3 }, [3, 0, 0]));
}

#[test]
fn printf_formats_like_c() {
    let source = kernel(
        ".local .align 8 .b8 args[40]; st.local.u32 [args], -5; st.local.f64 [args+8], 0d400921FB54442D18; st.local.u64 [args+16], 255;\
         mov.u64 %rd3, word; st.local.u64 [args+24], %rd3; st.local.u32 [args+32], 65; mov.u64 %rd1, format; mov.u64 %rd2, args; cvta.local.u64 %rd2, %rd2;\
         { .param .b64 param0; st.param.b64 [param0], %rd1; .param .b64 param1; st.param.b64 [param1], %rd2; .param .b32 retval0;\
         call (retval0), vprintf, (param0, param1); ld.param.b32 %r1, [retval0]; } st.global.u32 [%rd0], %r1;",
    );
    let text =
        |text: &str| text.bytes().chain([0]).map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let format = text("%05d|%.3f|%#llx|%6s|%c|100%%\n");
    let source = source.replace(
        ".visible",
        &format!(
            ".extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n.global .b8 format[] = {{{format}}};\n\
             .global .b8 word[] = {{{}}};\n.visible",
            text("abc")
        ),
    );
    let host = host();
    let out = host.buffer(8, true);
    host.run(&source, 1, 1, &[out, 0, 0, 0]).unwrap();
    assert_eq!(String::from_utf8_lossy(&host.printed.lock().unwrap()), "-0005|3.142|0xff|   abc|A|100%\n");
    assert_eq!(host.words(out, 1), [5]);
}

#[test]
fn failed_assertion_and_trap_are_faults() {
    let fault = host()
        .run(&kernel("mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 2; @%p1 trap;"), 1, 4, &[0; 4])
        .unwrap_err();
    assert_eq!((fault.kind, fault.thread), (FaultKind::Trap, [2, 0, 0]));
}

#[test]
fn threads_that_wait_for_each_other_are_a_deadlock() {
    let body = "mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 0; @%p1 bar.sync 1, 64; @!%p1 bar.sync 2, 64;";
    let fault = host().run(&kernel(body), 1, 64, &[0; 4]).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Deadlock { .. }), "{fault}");
}

#[test]
fn endless_kernel_ends_when_cancelled() {
    let host = host();
    host.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let fault = host.run(&kernel("LOOP: bra LOOP;"), 1, 1, &[0; 4]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Cancelled);
}

#[test]
fn unsupported_instruction_poisons_its_function_and_callers() {
    let source = ".version 8.0\n.target sm_80\n.address_size 64\n\
        .func f () { .reg .b32 %r<9>; .reg .b64 %rd<2>;\ntex.2d.v4.f32.s32 {%r0, %r1, %r2, %r3}, [%rd0, {%r4, %r5}]; ret; }\n\
        .entry bad() { call f, (); ret; }\n.entry good() { ret; }\n";
    let module = Module::parse(source).unwrap();
    let unsupported = module.entry("bad").unwrap().unsupported.clone().unwrap();
    assert_eq!(unsupported.line, 5);
    assert!(unsupported.instruction.starts_with("tex.2d"), "{unsupported}");
    assert!(module.entry("good").unwrap().unsupported.is_none());
}

#[test]
fn malformed_text_fails_with_its_place() {
    for (body, line, column, message) in [
        ("\nadd.s32 %r1, %r2;", 9, 1, "expected 3 operands, found 2"),
        ("\n  frobnicate.u32 %r1;", 9, 3, "unknown instruction"),
        ("\nbra NOWHERE;", 9, 1, "undefined label 'NOWHERE'"),
        ("\nmov.u32 %q1, 0;", 9, 9, "undeclared register"),
        ("\nmov.u32 %r1, 0", 10, 1, "expected ',' or ';'"),
        ("\nmov.u32 %r1, nothing;", 9, 1, "undefined name 'nothing'"),
        ("\n.reg .b32 %r<3>;", 9, 11, "name is declared twice"),
        ("\nL: L: ret;", 9, 4, "label is defined twice"),
    ] {
        let error = Module::parse(&kernel(body)).unwrap_err();
        assert_eq!((error.line, error.column, error.message.as_str()), (line, column, message), "{body}");
    }
    let error = Module::parse("hello").unwrap_err();
    assert_eq!((error.line, error.column, error.token.as_str()), (1, 1, "hello"));
}

#[test]
fn launch_bounds_and_parameters_are_reported() {
    let source = ".version 7.8\n.target sm_80, debug\n.address_size 64\n.visible .entry k(.param .u32 a, .param .align 8 .b8 s[12], .param .u64 .ptr .global .align 4 p)\n\
        .maxntid 256, 2\n.minnctapersm 2\n{ ret; }";
    let module = Module::parse(source).unwrap();
    let function = module.entry("k").unwrap();
    assert_eq!((module.version(), module.target()), ((7, 8), "sm_80"));
    assert_eq!((function.max_threads, function.min_blocks), (Some(512), Some(2)));
    let offsets: Vec<_> = function.params.iter().map(|param| (param.offset, param.size)).collect();
    assert_eq!(offsets, [(0, 4), (8, 12), (24, 8)]);
}

#[test]
fn asynchronous_copies_fill_with_zeros() {
    let host = host();
    let memory = host.filled(&[
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let body = ".shared .align 16 .b8 s[16]; mov.u32 %r1, s; cp.async.cg.shared.global [%r1], [%rd0], 16, 6; cp.async.commit_group;\
        cp.async.wait_group 0; ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [s]; st.global.v4.u32 [%rd0+16], {%r2, %r3, %r4, %r5};";
    host.run(&kernel(body), 1, 1, &[memory, 0, 0, 0]).unwrap();
    assert_eq!(host.words(memory + 16, 4), [0x0403_0201, 0x0605, 0, 0]);
}

#[test]
fn parse_never_panics_on_mutations() {
    let seeds = [
        kernel(&format!("{GLOBAL_INDEX} @!%p1 bra L; shfl.sync.down.b32 %r1|%p1, %r0, 4, 31, -1; L: st.global.v2.u32 [%rd2+-8], {{%r1, 0f3F800000}}; bar.red.popc.u32 %r5, 1, !%p1;")),
        ".version 8.0\n.target sm_80\n.address_size 64\n.global .align 8 .b8 a[4][2] = {{1,2},{3}};\n.global .u64 b[] = {generic(a)+4, 0xFF(a)};\n.func (.param .b32 r) f (.param .b32 p) { ts: .branchtargets X; X: brx.idx 0, ts; }\n.entry k() { { .param .b32 q; call (q), f, (q); } ret; }".to_owned(),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ";",
        ",",
        "%r1",
        "-1",
        "0x7fffffffffffffff",
        ".u64",
        "99999999999",
        "<",
        "\"",
        "/*",
        "é",
        "_",
        "!",
        "@",
        "|",
        ".v4",
        "p0",
        "add",
        ".shared",
        "+",
        "<<",
        "\0",
    ];
    let host = host();
    for round in 0..6000 {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(4) {
                0 => {
                    text.remove(at);
                }
                1 => {
                    let end = (at + random(20)).min(text.len());
                    text.drain(at..end);
                }
                2 => {
                    let other = random(text.len());
                    text.swap(at, other);
                }
                _ => {
                    text.splice(at..at, pieces[random(pieces.len())].chars());
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(module) = Module::parse(&text)
            && module.variables().iter().all(|variable| variable.size < 1 << 16)
            && let Some(function) = module.entry("k")
            && function.static_shared_bytes < 1 << 20
        {
            host.load(&module);
            let params = [0u8; 64];
            host.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
            let config = ptx::LaunchConfig {
                grid: [1; 3],
                block: [3, 1, 1],
                dynamic_shared_bytes: 64,
                params: &params,
                cooperative: false,
                max_workers: 1,
            };
            let _ = crate::launch(&module, function, &config, &host);
        }
    }
    let _ = parse("");
}
