//! What is not executed poisons the function that uses it, by name; what is no PTX fails the module.

use ptx::Module;

const REGISTERS: &str = ".reg .pred %p<5>; .reg .b16 %h<5>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %rd<5>; .reg .f64 %fd<5>;";

/// Textures and surfaces, what exists since compute capability 8.6 or later, and what nobody needs.
const REFUSED: &[&str] = &[
    "tex.2d.v4.f32.s32 {%r0, %r1, %r2, %r3}, [%rd0, {%r4, %r5}];",
    "tex.level.1d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%rd0, {%f4}], %f5;",
    "tld4.r.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%rd0, {%f4, %f5}];",
    "txq.width.b32 %r0, [%rd0];",
    "suld.b.1d.b32.trap {%r0}, [%rd0, {%r1}];",
    "sust.b.2d.b32.trap [%rd0, {%r0, %r1}], {%r2};",
    "sured.b.add.1d.u32.trap [%rd0, {%r0}], %r1;",
    "suq.width.b32 %r0, [%rd0];",
    "istypep.texref %p0, %rd0;",
    "wgmma.fence.sync.aligned;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, %rd0, %rd1, %p0, 1, 1, 0, 0;",
    "tcgen05.wait::ld.sync.aligned;",
    "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%rd0], %r0;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%rd0], [%rd1], %r0, [%rd2];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%rd0], [%rd1, {%r0, %r1}], [%rd2];",
    "cp.async.bulk.commit_group;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd0], [%rd1], %r0;",
    "st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%rd0], %r0, [%rd1];",
    "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%rd0], %r0, [%rd1];",
    "multimem.ld_reduce.global.add.u32 %r0, [%rd0];",
    "mapa.u64 %rd0, %rd1, %r0;",
    "getctarank.u64 %r0, %rd0;",
    "barrier.cluster.arrive.aligned;",
    "elect.sync %r0|%p0, 0xffffffff;",
    "griddepcontrol.wait;",
    "setmaxnreg.inc.sync.aligned.u32 64;",
    "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r0], {%r1};",
    "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%rd0], %r0;",
    "mbarrier.arrive.expect_tx.shared::cta.b64 %rd0, [%rd1], %r0;",
    "mov.u32 %r0, %cluster_ctarank;",
    "mov.u32 %r0, %clusterid.x;",
    "mov.u32 %r0, %pm0;",
    "mov.u64 %rd0, %pm1_64;",
    "atom.global.cas.b128 %rd0, [%rd1], %rd2, %rd3;",
    "atom.global.v2.f32.add {%f0, %f1}, [%rd0], {%f2, %f3};",
    "mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1}, {%r2, %r3}, {%f4, %f5, %f6, %f7}, %r4, 0;",
    "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}, {%r0, %r1}, {%r2, %r3}, {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7};",
    "mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%fd0, %fd1, %fd2, %fd3}, {%fd0, %fd1}, {%fd2}, {%fd0, %fd1, %fd2, %fd3};",
    "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f4, %f5, %f6, %f7};",
    "cvt.rn.satfinite.e4m3x2.f32 %h0, %f0, %f1;",
    "min.xorsign.abs.f32 %f0, %f1, %f2;",
    "add.rn.f32x2 %rd0, %rd1, %rd2;",
    "vmad.u32.u32.u32 %r0, %r1, %r2, %r3;",
    "vadd.u32.u32.u32 %r0, %r1.b0, %r2.h1;",
    "vote.all.pred %p0, %p1;",
];

const MALFORMED: &[&str] = &[
    "ad.u32 %r0, %r1, %r2;",
    "add.u32 %r0, %r1;",
    "add %r0, %r1, %r2;",
    "add.u32 %r0, %r1, %r99;",
    "mov.u32 %r0, nowhere;",
    "bra NOWHERE;",
    "add.u32 %r0, %r1, %r2",
    "ld.global.v2.u32 {%r0, %r1, %r2}, [%rd0];",
    "bar.red.and.pred %p0;",
    "mbarrier.b64 [%rd0];",
    "wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r0, %r1}, [%rd0], %r3;",
    "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0, %f1}, {%r0, %r1}, {%r2}, {%f4, %f5, %f6, %f7};",
    "mma.sync.aligned.m16n8k8.row.col.s32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1}, {%r2}, {%f4, %f5, %f6, %f7};",
    "cp.async.cg.shared.global [%r0], [%rd0], 5;",
    "setp.and.s32 %p0, %r0, %r1;",
    "shfl.sync.b32 %r0, %r1, %r2, %r3, %r4;",
    "call nothing, ();",
    "@%r0 exit;",
];

fn module(instruction: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .func f() {{ {REGISTERS}\n{instruction}\nret; }}\n.entry bad() {{ call f, (); ret; }}\n.entry good() {{ ret; }}\n"
    )
}

#[test]
fn what_is_not_executed_is_named_in_its_function_only() {
    let failure = |instruction: &str| -> Option<String> {
        let module = match Module::parse(&module(instruction)) {
            Ok(module) => module,
            Err(error) => return Some(error.to_string()),
        };
        assert!(module.entry("good").unwrap().unsupported.is_none(), "{instruction}");
        let Some(found) = &module.entry("bad").unwrap().unsupported else {
            return Some(format!("{instruction} is executed"));
        };
        let opcode = instruction.split([' ', ';']).next().unwrap();
        (found.line != 5 || found.instruction != opcode).then(|| found.to_string())
    };
    let failures: Vec<String> = REFUSED.iter().filter_map(|instruction| failure(instruction)).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn kernels_that_must_run_in_clusters_are_refused_by_name() {
    let module = Module::parse(
        ".version 8.0\n.target sm_90\n.address_size 64\n.entry plain() { ret; }\n\
         .entry fixed() .explicitcluster .reqnctapercluster 2, 1, 1 { ret; }\n\
         .entry blocks() .reqntid 32 .reqnctapercluster 1 .blocksareclusters { ret; }\n\
         .entry alone() .explicitcluster .maxclusterrank 8 .reqnctapercluster 1, 1, 1 { ret; }\n",
    )
    .unwrap();
    let refused: Vec<_> = module
        .entries()
        .filter_map(|entry| entry.unsupported.as_ref().map(|found| (&entry.name[..], &found.instruction[..])))
        .collect();
    assert_eq!(refused, [("fixed", ".reqnctapercluster"), ("blocks", ".blocksareclusters")]);
}

#[test]
fn what_is_no_ptx_fails_the_module() {
    for instruction in MALFORMED {
        match Module::parse(&module(instruction)) {
            Ok(_) => panic!("{instruction} is accepted"),
            Err(error) => assert!((5..=6).contains(&error.line), "{instruction}: {error}"),
        }
    }
}
