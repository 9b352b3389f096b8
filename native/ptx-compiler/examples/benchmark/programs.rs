//! The kernels, as NVIDIA's compiler writes them.

use std::fmt::Write as _;

const HEADER: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// C = A × B by tiles of 16 × 16 in shared memory; the inner loop is unrolled.
pub fn product() -> String {
    let mut text = format!(
        "{HEADER}.visible .entry product(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 size) {{
        .reg .pred %p<9>; .reg .b32 %r<40>; .reg .f32 %f<80>; .reg .b64 %rd<20>;
        .shared .align 4 .b8 tileA[1024]; .shared .align 4 .b8 tileB[1024];
        ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u32 %r1, [size];
        cvta.to.global.u64 %rd1, %rd1; cvta.to.global.u64 %rd2, %rd2; cvta.to.global.u64 %rd3, %rd3;
        mov.u32 %r2, %ctaid.y; shl.b32 %r3, %r2, 4; mov.u32 %r4, %tid.y; add.s32 %r5, %r3, %r4;
        mov.u32 %r6, %ctaid.x; shl.b32 %r7, %r6, 4; mov.u32 %r8, %tid.x; add.s32 %r9, %r7, %r8;
        mov.f32 %f1, 0f00000000; setp.lt.s32 %p1, %r1, 16; @%p1 bra DONE;
        shl.b32 %r10, %r4, 6; mov.u32 %r11, tileA; add.s32 %r12, %r11, %r10; shl.b32 %r13, %r8, 2; add.s32 %r14, %r12, %r13;
        mov.u32 %r15, tileB; add.s32 %r16, %r15, %r10; add.s32 %r17, %r16, %r13; add.s32 %r18, %r15, %r13;
        mad.lo.s32 %r19, %r5, %r1, %r8; mad.lo.s32 %r20, %r4, %r1, %r9; shl.b32 %r21, %r1, 4; shr.s32 %r22, %r1, 4; mov.u32 %r23, 0;
        LOOP: mul.wide.s32 %rd4, %r19, 4; add.s64 %rd5, %rd1, %rd4; ld.global.f32 %f2, [%rd5]; st.shared.f32 [%r14], %f2;
        mul.wide.s32 %rd6, %r20, 4; add.s64 %rd7, %rd2, %rd6; ld.global.f32 %f3, [%rd7]; st.shared.f32 [%r17], %f3;
        bar.sync 0;\n"
    );
    for k in 0..16 {
        let _ = writeln!(
            text,
            "ld.shared.f32 %f{a}, [%r18+{b_at}]; ld.shared.f32 %f{b}, [%r12+{a_at}]; fma.rn.f32 %f1, %f{b}, %f{a}, %f1;",
            a = 10 + 2 * k,
            b = 11 + 2 * k,
            a_at = 4 * k,
            b_at = 64 * k
        );
    }
    text.push_str(
        "bar.sync 0; add.s32 %r20, %r20, %r21; add.s32 %r19, %r19, 16; add.s32 %r23, %r23, 1; setp.lt.s32 %p2, %r23, %r22;
        @%p2 bra LOOP;
        DONE: mad.lo.s32 %r30, %r5, %r1, %r9; mul.wide.s32 %rd8, %r30, 4; add.s64 %rd9, %rd3, %rd8; st.global.f32 [%rd9], %f1;
        ret; }\n",
    );
    text
}

/// The same for OpenCL.
pub const PRODUCT_OPENCL: &str = "
    __kernel __attribute__((reqd_work_group_size(16, 16, 1)))
    void product(__global const float *a, __global const float *b, __global float *c, int size) {
        __local float tileA[16][16];
        __local float tileB[16][16];
        const int x = get_local_id(0), y = get_local_id(1);
        const int row = get_group_id(1) * 16 + y, column = get_group_id(0) * 16 + x;
        float sum = 0.0f;
        for (int step = 0; step < size / 16; step++) {
            tileA[y][x] = a[row * size + step * 16 + x];
            tileB[y][x] = b[(step * 16 + y) * size + column];
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int k = 0; k < 16; k++) sum = fma(tileA[y][k], tileB[k][x], sum);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        c[row * size + column] = sum;
    }";

/// A long straight kernel without barriers: integers, floats and a few branches.
pub fn polynomial() -> String {
    let mut text = format!(
        "{HEADER}.visible .entry polynomial(.param .u64 a, .param .u32 n) {{
        .reg .pred %p<9>; .reg .b32 %r<40>; .reg .f32 %f<80>; .reg .b64 %rd<20>;
        ld.param.u64 %rd1, [a]; ld.param.u32 %r1, [n]; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
        mad.lo.s32 %r5, %r2, %r3, %r4; setp.ge.s32 %p1, %r5, %r1; @%p1 bra DONE;
        mul.wide.s32 %rd2, %r5, 4; add.s64 %rd3, %rd1, %rd2; ld.global.f32 %f1, [%rd3]; mov.f32 %f2, 0f3F800000;\n"
    );
    for term in 0..40 {
        let _ = writeln!(
            text,
            "fma.rn.f32 %f2, %f2, %f1, 0f3F0{term:05X}; shl.b32 %r6, %r5, {}; xor.b32 %r5, %r5, %r6; setp.gt.s32 %p2, %r5, {term}; selp.f32 %f2, %f2, %f1, %p2;",
            term % 7 + 1
        );
    }
    text.push_str("st.global.f32 [%rd3], %f2; DONE: ret; }\n");
    text
}

/// A kernel that does nothing.
pub fn empty() -> String {
    format!("{HEADER}.visible .entry empty() {{ ret; }}\n")
}

/// Kernels of other shapes: their names, and what each does with `%r5`, the thread's number, before it stores `%r6`.
pub const SHAPES: [(&str, &str); 4] = [
    (
        "exchanges",
        "mov.u32 %r6, %r5; mov.u32 %r7, 0; MORE: shfl.sync.bfly.b32 %r8, %r6, 16, 31, -1; add.s32 %r6, %r6, %r8;
        shfl.sync.bfly.b32 %r8, %r6, 1, 31, -1; xor.b32 %r6, %r6, %r8; add.s32 %r7, %r7, 1; setp.lt.s32 %p1, %r7, 50; @%p1 bra MORE;",
    ),
    (
        "diverging",
        "add.s32 %r7, %r5, 1; mov.u32 %r6, 0; MORE: and.b32 %r8, %r7, 1; setp.eq.s32 %p1, %r8, 0; @%p1 bra EVEN;
        mad.lo.s32 %r7, %r7, 3, 1; bra NEXT; EVEN: shr.u32 %r7, %r7, 1;
        NEXT: add.s32 %r6, %r6, 1; setp.ne.s32 %p2, %r7, 1; @%p2 bra MORE;",
    ),
    (
        "scattered",
        "mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u32 %r9, %r5; MORE: mad.lo.s32 %r9, %r9, 1664525, 1013904223; shr.u32 %r8, %r9, 20;
        mul.wide.u32 %rd4, %r8, 4; add.s64 %rd5, %rd1, %rd4; ld.global.u32 %r10, [%rd5]; add.s32 %r6, %r6, %r10;
        add.s32 %r7, %r7, 1; setp.lt.s32 %p1, %r7, 64; @%p1 bra MORE;",
    ),
    (
        "straight",
        "mov.u32 %r6, %r5; cvt.rn.f32.s32 %f1, %r5; mov.u32 %r7, 0; MORE: fma.rn.f32 %f1, %f1, 0f3F7FF000, 0f3DCCCCCD;
        cvt.rzi.s32.f32 %r8, %f1; xor.b32 %r6, %r6, %r8; shl.b32 %r9, %r6, 3; add.s32 %r6, %r6, %r9; add.s32 %r7, %r7, 1;
        setp.lt.s32 %p1, %r7, 100; @%p1 bra MORE;",
    ),
];

/// A kernel of one of the shapes.
pub fn shape(body: &str) -> String {
    format!(
        "{HEADER}.visible .entry shape(.param .u64 a) {{
        .reg .pred %p<9>; .reg .b32 %r<40>; .reg .f32 %f<9>; .reg .b64 %rd<20>;
        ld.param.u64 %rd1, [a]; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.s32 %r5, %r2, %r3, %r4;
        {body}
        mul.wide.u32 %rd2, %r5, 4; add.s64 %rd3, %rd1, %rd2; st.global.u32 [%rd3+16384], %r6; ret; }}\n"
    )
}
