"""Programs of warps and blocks, with layouts and pseudo code as the specification words them:
python3 programs.py FOLDER"""

import random
import struct
import sys
from itertools import product

from exact import BF16, F16, F32, F64
from fractions import Fraction

chance = random.Random(3)
HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"
FOLDER = sys.argv[1]


def directive(kind, ty, values):
    """Runs of equal values are written as one."""
    words, width = [], int(ty[1:]) // 4
    for value in values:
        word = f"{value & (1 << 4 * width) - 1:#x}"
        if words and words[-1][0] == word:
            words[-1][1] += 1
        else:
            words.append([word, 1])
    texts = [word if count == 1 else f"{word}*{count}" for word, count in words]
    lines, line = [], f"//! {kind} {ty}"
    for text in texts:
        if len(line) + len(text) > 116:
            lines.append(line)
            line = "//!   "
        line += " " + text
    return "\n".join(lines + [line]) + "\n"


def program(name, body, buffers, grid=1, block=32, shared=0, fault=None, extra="", module=""):
    """`buffers` are (in or out, type, values); parameter n is in %rdn."""
    text = f"// Written by oracle/programs.py.\n//! grid {grid}\n//! block {block}\n"
    text += f"//! shared {shared}\n" if shared else ""
    text += f"//! fault {fault}\n" if fault else ""
    text += "".join(directive(*buffer) for buffer in buffers)
    text += HEAD + module + ".visible .entry k(" + ", ".join(f".param .u64 p{i}" for i in range(len(buffers))) + ")\n{\n"
    text += ".reg .pred %p<20>; .reg .b16 %h<40>; .reg .b32 %r<200>; .reg .f32 %f<40>; .reg .b64 %rd<60>; .reg .f64 %fd<20>;\n"
    text += extra
    text += "".join(f"ld.param.u64 %rd{i}, [p{i}];\n" for i in range(len(buffers)))
    text += body.strip() + "\nret;\n}\n"
    with open(f"{FOLDER}/{name}.ptx", "w") as file:
        file.write(text)


ELEMENTS = {"f16": 16, "bf16": 16, "tf32": 32, "f32": 32, "f64": 64, "s32": 32, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}


def small(kind):
    """A number that every product and sum holds exactly."""
    if kind == "b1":
        return chance.getrandbits(1)
    if kind in ("s8", "s4"):
        return chance.randrange(-8, 8) if kind == "s4" else chance.randrange(-128, 128)
    if kind in ("u8", "u4"):
        return chance.randrange(16 if kind == "u4" else 256)
    return chance.randrange(-4, 5)


def encode(kind, value):
    if kind in ("f16", "bf16", "f32", "tf32", "f64"):
        format = {"f16": F16, "bf16": BF16, "f32": F32, "tf32": F32, "f64": F64}[kind]
        return format.round(Fraction(value), "rn")
    return value & (1 << ELEMENTS[kind]) - 1


def pack(kind, values, width):
    """Neighbours in words of that many bits, lowest first."""
    count = width // ELEMENTS[kind]
    return [
        sum(encode(kind, value) << ELEMENTS[kind] * i for i, value in enumerate(values[at : at + count]))
        for at in range(0, len(values), count)
    ]


def fragments(shape, kind):
    """(row, column) of element i of A, B, and the accumulator, for a lane: the formulas of the specification."""
    bits = ELEMENTS[kind]
    table = {
        ((16, 8, 16), 16): (
            8, lambda g, t, i: (g if i in (0, 1, 4, 5) else g + 8, t * 2 + (i & 1) + (0 if i < 4 else 8)),
            4, lambda g, t, i: (t * 2 + (i & 1) + (0 if i < 2 else 8), g)),
        ((16, 8, 8), 16): (
            4, lambda g, t, i: (g if i < 2 else g + 8, t * 2 + (i & 1)), 2, lambda g, t, i: (t * 2 + i, g)),
        ((16, 8, 8), 32): (
            4, lambda g, t, i: (g if i in (0, 2) else g + 8, t if i in (0, 1) else t + 4),
            2, lambda g, t, i: (t if i == 0 else t + 4, g)),
        ((16, 8, 4), 32): (2, lambda g, t, i: (g if i == 0 else g + 8, t), 1, lambda g, t, i: (t, g)),
        ((8, 8, 4), 64): (1, lambda g, t, i: (g, t), 1, lambda g, t, i: (t, g)),
        ((8, 8, 16), 8): (4, lambda g, t, i: (g, t * 4 + i), 4, lambda g, t, i: (t * 4 + i, g)),
        ((16, 8, 16), 8): (8, lambda g, t, i: (g if i < 4 else g + 8, t * 4 + (i & 3)), 4, lambda g, t, i: (t * 4 + i, g)),
        ((16, 8, 32), 8): (
            16, lambda g, t, i: (g if i < 4 or 8 <= i < 12 else g + 8, t * 4 + (i & 3) + (0 if i < 8 else 16)),
            8, lambda g, t, i: (t * 4 + (i & 3) + (0 if i < 4 else 16), g)),
        ((8, 8, 32), 4): (8, lambda g, t, i: (g, t * 8 + i), 8, lambda g, t, i: (t * 8 + i, g)),
        ((16, 8, 32), 4): (16, lambda g, t, i: (g if i < 8 else g + 8, t * 8 + (i & 7)), 8, lambda g, t, i: (t * 8 + i, g)),
        ((16, 8, 64), 4): (
            32, lambda g, t, i: (g if i < 8 or 16 <= i < 24 else g + 8, t * 8 + (i & 7) + (0 if i < 16 else 32)),
            16, lambda g, t, i: (t * 8 + (i & 7) + (0 if i < 8 else 32), g)),
        ((8, 8, 128), 1): (32, lambda g, t, i: (g, t * 32 + i), 32, lambda g, t, i: (t * 32 + i, g)),
        ((16, 8, 128), 1): (64, lambda g, t, i: (g if i < 32 else g + 8, t * 32 + (i & 31)), 32, lambda g, t, i: (t * 32 + i, g)),
        ((16, 8, 256), 1): (
            128, lambda g, t, i: (g if i < 32 or 64 <= i < 96 else g + 8, t * 32 + (i & 31) + (0 if i < 64 else 128)),
            64, lambda g, t, i: (t * 32 + (i & 31) + (0 if i < 32 else 128), g)),
    }
    count_a, a, count_b, b = table[(shape, bits)]
    if shape[0] == 8:
        count_c, c = 2, lambda g, t, i: (g, t * 2 + i)
    else:
        count_c, c = 4, lambda g, t, i: (g if i < 2 else g + 8, t * 2 + (i & 1))
    return (count_a, a), (count_b, b), (count_c, c)


def random_matrix(kind, rows, columns):
    return [[small(kind) for _ in range(columns)] for _ in range(rows)]


def times(a, b, c, kind, operation=None):
    rows, inner, columns = len(a), len(b), len(b[0])
    act = {"xor": lambda x, y: x ^ y, None: lambda x, y: x * y, "and": lambda x, y: x & y}[operation]
    return [[c[i][j] + sum(act(a[i][k], b[k][j]) for k in range(inner)) for j in range(columns)] for i in range(rows)]


def lanes(fragment, matrix, kind, width=32):
    count, place = fragment
    words = []
    for lane in range(32):
        values = [matrix[row][column] for row, column in (place(lane >> 2, lane % 4, i) for i in range(count))]
        words += pack(kind, values, max(width, ELEMENTS[kind]))
    return words


def registers(first, count, double):
    return "{" + ", ".join(f"%{'fd' if double else 'r'}{first + i}" for i in range(count)) + "}"


def mma():
    cases = [((16, 8, 16), "f16", "f16", s, d) for s in ("f16", "f32") for d in ("f16", "f32")]
    cases += [((16, 8, 8), "f16", "f16", "f32", "f32"), ((16, 8, 8), "f16", "f16", "f16", "f16")]
    cases += [((16, 8, k), "bf16", "bf16", "f32", "f32") for k in (8, 16)]
    cases += [((16, 8, k), "tf32", "tf32", "f32", "f32") for k in (4, 8)]
    cases += [((8, 8, 4), "f64", "f64", "f64", "f64")]
    cases += [(shape, a, b, "s32", "s32") for shape in ((8, 8, 16), (16, 8, 16), (16, 8, 32)) for a, b in (("s8", "s8"), ("u8", "s8"))]
    cases += [(shape, a, b, "s32", "s32") for shape in ((8, 8, 32), (16, 8, 32), (16, 8, 64)) for a, b in (("s4", "s4"), ("u4", "s4"))]
    cases += [((m, 8, k), "b1", "b1", "s32", "s32") for m, k in ((8, 128), (16, 128), (16, 256))]
    for shape, a_kind, b_kind, c_kind, d_kind in cases:
        rows, columns, inner = shape
        fa, fb, fc = fragments(shape, a_kind)
        operation = "xor" if a_kind == "b1" else None
        a, b = random_matrix(a_kind, rows, inner), random_matrix(b_kind, inner, columns)
        c = random_matrix(c_kind, rows, columns)
        d = times(a, b, c, d_kind, operation)
        double = a_kind == "f64"
        width, size = (64, 8) if double else (32, 4)
        counts = [max(1, count * ELEMENTS[kind] // width) for (count, _), kind in ((fa, a_kind), (fb, b_kind), (fc, c_kind), (fc, d_kind))]
        firsts = [0, counts[0], counts[0] + counts[1], counts[0] + counts[1] + counts[2]]
        body = "mov.u32 %r190, %laneid;\n"
        kind = "f64" if double else "b32"
        prefix = "%fd" if double else "%r"
        for index in range(3):
            body += f"mad.wide.u32 %rd{10 + index}, %r190, {counts[index] * size}, %rd{index};\n"
            for register in range(counts[index]):
                body += f"ld.global.{kind} {prefix}{firsts[index] + register}, [%rd{10 + index}+{register * size}];\n"
        popc = ".xor.popc" if operation else ""
        types = ".".join((d_kind, a_kind, b_kind, c_kind))
        parts = [registers(firsts[i], counts[i], double) for i in (3, 0, 1, 2)]
        body += f"mma.sync.aligned.m{rows}n{columns}k{inner}.row.col.{types}{popc} {', '.join(parts)};\n"
        body += f"mad.wide.u32 %rd13, %r190, {counts[3] * size}, %rd3;\n"
        for register in range(counts[3]):
            body += f"st.global.{kind} [%rd13+{register * size}], {prefix}{firsts[3] + register};\n"
        ty = f"u{width}"
        program(f"mma-m{rows}n{columns}k{inner}-{d_kind}-{a_kind}-{b_kind}-{c_kind}", body, [
            ("in", ty, lanes(fa, a, a_kind, width)), ("in", ty, lanes(fb, b, b_kind, width)),
            ("in", ty, lanes(fc, c, c_kind, width)), ("out", ty, lanes(fc, d, d_kind, width))])


def saturating():
    """Sums beyond 32 bits: clamped, or wrapped."""
    fa, fb, fc = fragments((8, 8, 16), "u8")
    a, b = [[255] * 16 for _ in range(8)], [[255] * 8 for _ in range(16)]
    c = [[2**31 - 1 - 100 * (row + column) for column in range(8)] for row in range(8)]
    total = times(a, b, c, "s32")
    clamp = [[min(value, 2**31 - 1) for value in row] for row in total]
    body = """mov.u32 %r9, %laneid; mad.wide.u32 %rd10, %r9, 8, %rd0; ld.global.v2.u32 {%r0, %r1}, [%rd10]; mov.b32 %r2, 0xffffffff;
mma.sync.aligned.m8n8k16.row.col.satfinite.s32.u8.u8.s32 {%r3, %r4}, {%r2}, {%r2}, {%r0, %r1};
mma.sync.aligned.m8n8k16.row.col.s32.u8.u8.s32 {%r5, %r6}, %r2, %r2, {%r0, %r1};
mad.wide.u32 %rd11, %r9, 8, %rd1; st.global.v2.u32 [%rd11], {%r3, %r4}; mad.wide.u32 %rd12, %r9, 8, %rd2; st.global.v2.u32 [%rd12], {%r5, %r6};"""
    program("mma-saturation", body, [("in", "u32", lanes(fc, c, "s32")), ("out", "u32", lanes(fc, clamp, "s32")), ("out", "u32", lanes(fc, total, "s32"))])


def in_memory(matrix, order, stride, kind):
    """A matrix with a leading dimension, as elements."""
    rows, columns = len(matrix), len(matrix[0])
    outer, inner = (rows, columns) if order == "row" else (columns, rows)
    values = []
    for i in range(outer):
        values += [matrix[i][j] if order == "row" else matrix[j][i] for j in range(inner)]
        values += [0] * (stride - inner)
    return pack(kind, values, max(8, ELEMENTS[kind]))


def wmma():
    halves = [((16, 16, 16), "a"), ((32, 8, 16), "b"), ((8, 32, 16), "c")]
    cases = [(shape, "f16", s, s) for shape, _ in halves for s in ("f16", "f32")] + [((16, 16, 16), "f16", "f32", "f16")]
    cases += [(shape, kind, s, s) for shape, _ in halves for kind, s in (("bf16", "f32"), ("s8", "s32"), ("u8", "s32"))]
    cases += [((16, 16, 8), "tf32", "f32", "f32"), ((8, 8, 4), "f64", "f64", "f64"), ((8, 8, 32), "s4", "s32", "s32"), ((8, 8, 128), "b1", "s32", "s32")]
    for (rows, columns, inner), kind, c_kind, d_kind in cases:
        shape = f"m{rows}n{columns}k{inner}"
        name = f"wmma-{shape}-{kind}-{c_kind}-{d_kind}"
        a, b, c = random_matrix(kind, rows, inner), random_matrix(kind, inner, columns), random_matrix(c_kind, rows, columns)
        d = times(a, b, c, d_kind, "xor" if kind == "b1" else None)
        element = ELEMENTS[kind]
        double = kind == "f64"
        word = 64 if double else 32

        def count(matrix_rows, matrix_columns, of):
            if of == "f16" and (matrix_rows, matrix_columns) in ((rows, inner), (inner, columns)) and of == kind:
                return 8
            return max(1, matrix_rows * matrix_columns * ELEMENTS[of] // word // 32)

        counts = [count(rows, inner, kind), count(inner, columns, kind), max(1, rows * columns * ELEMENTS[c_kind] // word // 32),
                  max(1, rows * columns * ELEMENTS[d_kind] // word // 32)]
        buffers, body, outs = [], "", []
        orders = [("row", "col")] if element < 8 else list(product(("row", "col"), repeat=2))
        size = max(8, element)
        for index, (order_a, order_b) in enumerate(orders):
            order_c = "row" if index & 1 else "col"
            pad = max(16, 128 // element)
            strides = [(inner if order_a == "row" else rows) + pad, (inner if order_b == "col" else columns) + pad,
                       (columns if order_c == "row" else rows) + 16]
            if element < 8:
                strides[0] = strides[1] = inner
            base = 4 * index
            buffers += [("in", f"u{size}", in_memory(a, order_a, strides[0], kind)), ("in", f"u{size}", in_memory(b, order_b, strides[1], kind)),
                        ("in", f"u{ELEMENTS[c_kind]}", in_memory(c, order_c, strides[2], c_kind)),
                        ("out", f"u{ELEMENTS[d_kind]}", in_memory(d, order_c, strides[2], d_kind))]
            starts = [0, counts[0], counts[0] + counts[1], counts[0] + counts[1] + counts[2]]
            names = [registers(starts[i], counts[i], double) for i in range(4)]
            types = {"f16": f"{d_kind}.{c_kind}"}.get(kind, f"{d_kind}.{kind}.{kind}.{c_kind}")
            middle = ".xor.popc" if kind == "b1" else ""
            body += f"mov.u32 %r190, {strides[0]};\n"
            body += f"wmma.load.a.sync.aligned.{order_a}.{shape}.global.{kind} {names[0]}, [%rd{base}], %r190;\n"
            body += f"wmma.load.b.sync.aligned.{order_b}.{shape}.{kind} {names[1]}, [%rd{base + 1}], {strides[1]};\n"
            body += f"wmma.load.c.sync.aligned.{order_c}.{shape}.global.{c_kind} {names[2]}, [%rd{base + 2}], {strides[2]};\n"
            if kind == "b1":
                body += f"wmma.mma.xor.popc.sync.aligned.row.col.{shape}.{types} {names[3]}, {names[0]}, {names[1]}, {names[2]};\n"
            else:
                body += f"wmma.mma.sync.aligned.{order_a}.{order_b}.{shape}.{types} {names[3]}, {names[0]}, {names[1]}, {names[2]};\n"
            body += f"wmma.store.d.sync.aligned.{order_c}.{shape}.global.{d_kind} [%rd{base + 3}], {names[3]}, {strides[2]};\n"
        program(name, body, buffers)


def ldmatrix():
    rows = [[chance.getrandbits(16) for _ in range(8)] for _ in range(32)]
    flat = [value for row in rows for value in row]
    for trans in ("", ".trans"):
        for count in (1, 2, 4):
            expected = []
            for lane in range(32):
                for matrix in range(count):
                    at = lambda r, c: rows[8 * matrix + r][c]
                    if trans:
                        low, high = at(2 * (lane % 4), lane // 4), at(2 * (lane % 4) + 1, lane // 4)
                    else:
                        low, high = at(lane // 4, 2 * (lane % 4)), at(lane // 4, 2 * (lane % 4) + 1)
                    expected.append(high << 16 | low)
            names = registers(10, count, False)
            stores = "".join(f"st.global.u32 [%rd11+{4 * i}], %r{10 + i};\n" for i in range(count))
            # Row i of the matrices lies where lane i says: in reverse order, 32 bytes apart.
            body = f"""mov.u32 %r0, %laneid; mad.wide.u32 %rd10, %r0, 16, %rd0; ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd10];
mov.u32 %r5, tile; sub.u32 %r6, 31, %r0; mad.lo.u32 %r7, %r6, 32, %r5; st.shared.v4.u32 [%r7+16], {{%r1, %r2, %r3, %r4}}; bar.warp.sync -1;
ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {names}, [%r7+16]; mad.wide.u32 %rd11, %r0, {4 * count}, %rd1;
{stores}cvt.u64.u32 %rd12, %r7; cvta.shared.u64 %rd12, %rd12; add.s64 %rd12, %rd12, 16;
ldmatrix.sync.aligned.m8n8.x{count}{trans}.b16 {names}, [%rd12]; mad.wide.u32 %rd11, %r0, {4 * count}, %rd2;\n{stores}"""
            program(f"ldmatrix-x{count}{trans.replace('.', '-')}", body,
                    [("in", "u16", flat), ("out", "u32", expected), ("out", "u32", expected)], extra=".shared .align 16 .b8 tile[1040];\n")
    matrix = [[chance.getrandbits(16) for _ in range(8)] for _ in range(8)]
    words = lambda m: [m[lane // 4][2 * (lane % 4) + 1] << 16 | m[lane // 4][2 * (lane % 4)] for lane in range(32)]
    body = """mov.u32 %r0, %laneid; mad.wide.u32 %rd10, %r0, 4, %rd0; ld.global.u32 %r1, [%rd10]; movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;
mad.wide.u32 %rd11, %r0, 4, %rd1; st.global.u32 [%rd11], %r2;"""
    program("movmatrix", body, [("in", "u32", words(matrix)), ("out", "u32", words([list(row) for row in zip(*matrix)]))])
    program("ldmatrix-misaligned", "mov.u32 %r0, tile; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r0+8];", [("out", "u32", [0])],
            extra=".shared .align 16 .b8 tile[1040];\n", fault="misaligned address")


def shuffle(mode, lane, values, b, c, mask):
    """The pseudo code of `shfl.sync`."""
    bval, cval, segment = b & 31, c & 31, c >> 8 & 31
    max_lane = lane & segment | cval & ~segment & 31
    min_lane = lane & segment
    j = {"up": lane - bval, "down": lane + bval, "bfly": lane ^ bval, "idx": min_lane | bval & ~segment & 31}[mode]
    p = j >= max_lane if mode == "up" else j <= max_lane
    if not p:
        j = lane
    return values[j], p


def warp():
    values = [chance.getrandbits(32) for _ in range(32)]
    cases = []
    for mode in ("up", "down", "bfly", "idx"):
        for b in (0, 1, 5, 16, 31, 33):
            for c in (0, 31, 0x1C1F, 0x181F, 0x1000, 0x1E03, 0x1010):
                cases.append((mode, b, c))
    body, expected = "mov.u32 %r0, %laneid; mad.wide.u32 %rd10, %r0, 4, %rd0; ld.global.u32 %r1, [%rd10];\n", []
    body += f"mad.wide.u32 %rd11, %r0, 4, %rd1;\n"
    for index, (mode, b, c) in enumerate(cases):
        body += f"shfl.sync.{mode}.b32 %r2|%p1, %r1, {b}, {c:#x}, 0xffffffff; @%p1 xor.b32 %r2, %r2, 1; st.global.u32 [%rd11+{128 * index}], %r2;\n"
        for lane in range(32):
            value, p = shuffle(mode, lane, values, b, c, -1)
            expected.append(value ^ int(p))
    program("shuffles", body, [("in", "u32", values), ("out", "u32", expected)])

    # Each half of the warp meets on its own, and what they choose from differs by lane.
    numbers = [chance.choice([5, 9, 0xFFFFFFF0, 77]) for _ in range(32)]
    masks = [0x0000FFFF if lane < 16 else 0xFFFF0000 for lane in range(32)]
    signed = lambda value: value - (1 << 32) if value >> 31 else value

    def members(lane):
        return [other for other in range(32) if masks[lane] >> other & 1]

    def fold(act):
        result = []
        for lane in range(32):
            first, *rest = [numbers[other] for other in members(lane)]
            for value in rest:
                first = act(first, value)
            result.append(first & 0xFFFFFFFF)
        return result

    ops = [
        ("redux.sync.add.u32 %r5, %r1, %r3;", fold(lambda a, b: a + b)),
        ("redux.sync.add.s32 %r5, %r1, %r3;", fold(lambda a, b: a + b)),
        ("redux.sync.min.u32 %r5, %r1, %r3;", fold(min)),
        ("redux.sync.max.u32 %r5, %r1, %r3;", fold(max)),
        ("redux.sync.min.s32 %r5, %r1, %r3;", fold(lambda a, b: min(a, b, key=signed))),
        ("redux.sync.max.s32 %r5, %r1, %r3;", fold(lambda a, b: max(a, b, key=signed))),
        ("redux.sync.and.b32 %r5, %r1, %r3;", fold(lambda a, b: a & b)),
        ("redux.sync.or.b32 %r5, %r1, %r3;", fold(lambda a, b: a | b)),
        ("redux.sync.xor.b32 %r5, %r1, %r3;", fold(lambda a, b: a ^ b)),
        ("setp.gt.u32 %p1, %r1, 50; vote.sync.ballot.b32 %r5, %p1, %r3;",
         [sum(1 << other for other in members(lane) if numbers[other] > 50) for lane in range(32)]),
        ("setp.gt.u32 %p1, %r1, 50; vote.sync.all.pred %p2, %p1, %r3; selp.u32 %r5, 1, 0, %p2;",
         [int(all(numbers[other] > 50 for other in members(lane))) for lane in range(32)]),
        ("setp.gt.u32 %p1, %r1, 50; vote.sync.any.pred %p2, !%p1, %r3; selp.u32 %r5, 1, 0, %p2;",
         [int(any(numbers[other] <= 50 for other in members(lane))) for lane in range(32)]),
        ("setp.gt.u32 %p1, %r1, 3; vote.sync.uni.pred %p2, %p1, %r3; selp.u32 %r5, 1, 0, %p2;", [1] * 32),
        ("match.any.sync.b32 %r5, %r1, %r3;", [sum(1 << other for other in members(lane) if numbers[other] == numbers[lane]) for lane in range(32)]),
        ("cvt.u64.u32 %rd5, %r1; shl.b64 %rd5, %rd5, 32; match.any.sync.b64 %r5, %rd5, %r3;",
         [sum(1 << other for other in members(lane) if numbers[other] == numbers[lane]) for lane in range(32)]),
        ("match.all.sync.b32 %r5|%p2, %r1, %r3; @%p2 add.u32 %r5, %r5, 1;", [0] * 32),
        ("mov.u32 %r6, 4; match.all.sync.b32 %r5|%p2, %r6, %r3; @!%p2 mov.u32 %r5, 0;", masks),
        ("mov.u64 %rd5, 4; match.all.sync.b64 %r5|%p2, %rd5, %r3; @!%p2 mov.u32 %r5, 0;", masks),
    ]
    body = "mov.u32 %r0, %laneid; mad.wide.u32 %rd10, %r0, 4, %rd0; ld.global.u32 %r1, [%rd10]; mad.wide.u32 %rd11, %r0, 4, %rd1;\n"
    body += "setp.lt.u32 %p9, %r0, 16; @%p9 bra LOW; mov.u32 %r3, 0xffff0000;\n"
    both = "".join(f"{text} st.global.u32 [%rd11+{128 * index}], %r5;\n" for index, (text, _) in enumerate(ops))
    body += both + "bra DONE;\nLOW: mov.u32 %r3, 0xffff;\n" + both + "DONE: bar.warp.sync 0xffffffff;\n"
    program("warp-halves", body, [("in", "u32", numbers), ("out", "u32", [value for _, values in ops for value in values])])

    masks_of = lambda lane: [1 << lane, (1 << lane) - 1, (2 << lane) - 1, 0xFFFFFFFF & ~((2 << lane) - 1), 0xFFFFFFFF & ~((1 << lane) - 1)]
    names = ["lanemask_eq", "lanemask_lt", "lanemask_le", "lanemask_gt", "lanemask_ge"]
    expected = [value for thread in range(80) for value in [thread % 32, thread // 32, 3, thread, 80, 1, 2] + masks_of(thread % 32)]
    reads = ["%laneid", "%warpid", "%nwarpid", "%tid.x", "%ntid.x", "%ctaid.x", "%nctaid.x"] + [f"%{name}" for name in names]
    body = "mov.u32 %r0, %tid.x; mov.u32 %r2, %ctaid.x; setp.eq.u32 %p1, %r2, 0; @%p1 exit; mad.wide.u32 %rd10, %r0, 48, %rd0;\n"
    body += "".join(f"mov.u32 %r1, {name}; st.global.u32 [%rd10+{4 * i}], %r1;\n" for i, name in enumerate(reads))
    program("special-registers", body, [("out", "u32", expected)], grid=2, block=80)


def barriers():
    # Pairs of warps take turns by named barriers: each adds what the other wrote.
    body = """mov.u32 %r0, %tid.x; shr.u32 %r1, %r0, 5; shr.u32 %r2, %r1, 1; add.u32 %r3, %r2, 1; and.b32 %r4, %r1, 1; mov.u32 %r9, cells; mad.lo.u32 %r5, %r0, 4, %r9;
st.shared.u32 [%r5], %r0; barrier.sync %r3, 64; xor.b32 %r6, %r0, 32; mad.lo.u32 %r7, %r6, 4, %r9; ld.shared.u32 %r8, [%r7]; barrier.sync %r3, 64;
st.shared.u32 [%r5], %r8; bar.sync 0; ld.shared.u32 %r10, [%r5]; mad.wide.u32 %rd10, %r0, 4, %rd0; st.global.u32 [%rd10], %r10;"""
    program("barrier-named", body, [("out", "u32", [thread ^ 32 for thread in range(256)])], block=256, extra=".shared .align 4 .b8 cells[1024];\n")

    # Warp 0 produces, the others wait for it and count.
    body = """mov.u32 %r0, %tid.x; setp.lt.u32 %p1, %r0, 32; and.b32 %r1, %r0, 1; setp.eq.u32 %p2, %r1, 0; @!%p1 bra WAIT;
setp.eq.u32 %p3, %r0, 0; @%p3 st.shared.u32 [cell], 42; barrier.arrive 2, 96; bra DONE;
WAIT: barrier.sync 2, 96; ld.shared.u32 %r2, [cell]; mad.wide.u32 %rd10, %r0, 4, %rd0; st.global.u32 [%rd10], %r2;
DONE: barrier.red.popc.u32 %r3, 3, %p2; barrier.red.and.pred %p4, 3, %p2; barrier.red.or.pred %p5, 3, 96, !%p2; selp.u32 %r4, 1000, 0, %p4; selp.u32 %r5, 2000, 0, %p5;
add.u32 %r3, %r3, %r4; add.u32 %r3, %r3, %r5; mad.wide.u32 %rd11, %r0, 4, %rd1; st.global.u32 [%rd11], %r3;"""
    program("barrier-producer", body, [("out", "u32", [0] * 32 + [42] * 64), ("out", "u32", [2048] * 96)], block=96, extra=".shared .align 4 .u32 cell;\n")

    # A warp counts as a whole: lanes that have exited, and those that the last warp never had, are not waited for.
    body = """mov.u32 %r0, %tid.x; and.b32 %r1, %r0, 7; setp.eq.u32 %p1, %r1, 3; @%p1 exit; setp.ge.u32 %p2, %r0, 64; @%p2 bra LAST; barrier.sync 4, 64; bra DONE;
LAST: st.shared.u32 [cell], 9; barrier.arrive 5, 64; exit; DONE: setp.lt.u32 %p3, %r0, 32; @!%p3 bra END; barrier.sync 5, 64; ld.shared.u32 %r2, [cell]; mad.wide.u32 %rd10, %r0, 4, %rd0; st.global.u32 [%rd10], %r2; END:"""
    program("barrier-exited", body, [("out", "u32", [0 if thread % 8 == 3 else 9 for thread in range(32)])], block=80, extra=".shared .align 4 .u32 cell;\n")

    program("barrier-deadlock", """mov.u32 %r0, %tid.x; setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 2, 64;""",
            [("out", "u32", [0])], block=64, fault="warp 0 (32 lanes): barrier 1 at line")


def memory_barriers():
    # Three phases of 64 arrivals; the last is watched by its parity.
    body = """mov.u32 %r0, %tid.x; setp.ne.u32 %p1, %r0, 0; @%p1 bra READY; mbarrier.init.shared.b64 [gate], 64; READY: bar.sync 0;
mov.u32 %r9, cells; mad.lo.u32 %r1, %r0, 4, %r9; st.shared.u32 [%r1], %r0; mbarrier.arrive.shared.b64 %rd5, [gate];
FIRST: mbarrier.test_wait.shared.b64 %p2, [gate], %rd5; @!%p2 bra FIRST; sub.u32 %r2, 63, %r0; mad.lo.u32 %r2, %r2, 4, %r9; ld.shared.u32 %r3, [%r2];
mbarrier.arrive.shared.b64 %rd6, [gate]; SECOND: mbarrier.test_wait.shared::cta.b64 %p2, [gate], %rd6; @!%p2 bra SECOND; st.shared.u32 [%r1], %r3;
mov.u64 %rd7, gate; cvta.shared.u64 %rd7, %rd7; mbarrier.arrive.b64 _, [%rd7]; THIRD: mbarrier.test_wait.parity.b64 %p2, [%rd7], 0; @!%p2 bra THIRD;
ld.shared.u32 %r4, [%r1]; mad.wide.u32 %rd10, %r0, 4, %rd0; st.global.u32 [%rd10], %r4; bar.sync 0; @%p1 bra DONE; mbarrier.inval.shared.b64 [gate]; DONE:"""
    program("mbarrier-phases", body, [("out", "u32", [63 - thread for thread in range(64)])], block=64,
            extra=".shared .align 8 .b64 gate; .shared .align 4 .b8 cells[256];\n")

    # One thread: counts in the states, dropping out, and phases by parity.
    steps = """mbarrier.init.shared.b64 [gate], 4; mbarrier.arrive.noComplete.shared.b64 %rd5, [gate], 2; mbarrier.pending_count.b64 %r1, %rd5;
mbarrier.arrive.shared.b64 %rd6, [gate]; mbarrier.pending_count.b64 %r2, %rd6; mbarrier.test_wait.shared.b64 %p1, [gate], %rd6; mbarrier.test_wait.parity.shared.b64 %p2, [gate], 1;
mbarrier.arrive_drop.shared.b64 %rd7, [gate]; mbarrier.test_wait.shared.b64 %p3, [gate], %rd7; mbarrier.test_wait.parity.shared.b64 %p4, [gate], 0;
mbarrier.arrive_drop.noComplete.shared.b64 %rd8, [gate], 1; mbarrier.pending_count.b64 %r3, %rd8; mbarrier.arrive.shared.b64 %rd9, [gate]; mbarrier.pending_count.b64 %r4, %rd9;
mbarrier.arrive.shared.b64 %rd11, [gate]; mbarrier.test_wait.shared.b64 %p5, [gate], %rd9; mbarrier.test_wait.parity.shared.b64 %p6, [gate], 1; mbarrier.test_wait.parity.shared.b64 %p7, [gate], 0;
mbarrier.arrive.shared.b64 %rd12, [gate]; mbarrier.pending_count.b64 %r5, %rd12; cp.async.mbarrier.arrive.shared.b64 [gate]; mbarrier.arrive.shared.b64 %rd13, [gate]; mbarrier.pending_count.b64 %r6, %rd13;
"""
    # 4 expected; two and one arrive; a fourth drops out: 3 expected, phase 1; one more drops: 2 expected later; ...
    counts = [4, 2, 3, 2, 2, 1]
    flags = [0, 1, 1, 1, 1, 1, 0]
    stores = "".join(f"st.global.u32 [%rd0+{4 * i}], %r{i + 1};\n" for i in range(6))
    stores += "".join(f"selp.u32 %r9, 1, 0, %p{i + 1}; st.global.u32 [%rd0+{24 + 4 * i}], %r9;\n" for i in range(7))
    program("mbarrier-counts", steps + stores, [("out", "u32", counts + flags)], block=1, extra=".shared .align 8 .b64 gate;\n")

    # A producer warp fills a cell of eight rounds, a consumer warp empties it: two barriers, waited for by parity.
    body = """mov.u32 %r0, %tid.x; setp.ne.u32 %p1, %r0, 0; @%p1 bra READY; mbarrier.init.shared.b64 [full], 32; mbarrier.init.shared.b64 [empty], 32; READY: bar.sync 0;
and.b32 %r1, %r0, 31; mov.u32 %r9, cells; mad.lo.u32 %r2, %r1, 4, %r9; mov.u32 %r3, 0; mov.u32 %r4, 0; setp.ge.u32 %p2, %r0, 32; @%p2 bra CONSUME;
PRODUCE: and.b32 %r5, %r3, 1; xor.b32 %r5, %r5, 1; FREE: mbarrier.try_wait.parity.shared::cta.b64 %p3, [empty], %r5; @!%p3 bra FREE; mad.lo.u32 %r6, %r3, 100, %r1; st.shared.u32 [%r2], %r6;
mbarrier.arrive.release.cta.shared::cta.b64 _, [full]; add.u32 %r3, %r3, 1; setp.lt.u32 %p4, %r3, 8; @%p4 bra PRODUCE; bra DONE;
CONSUME: and.b32 %r5, %r3, 1; FILLED: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p3, [full], %r5, 1000; @!%p3 bra FILLED; xor.b32 %r7, %r2, 4; ld.shared.u32 %r6, [%r7]; add.u32 %r4, %r4, %r6;
mbarrier.arrive.shared::cta.b64 %rd5, [empty], 1; add.u32 %r3, %r3, 1; setp.lt.u32 %p4, %r3, 8; @%p4 bra CONSUME; mad.wide.u32 %rd10, %r1, 4, %rd0; st.global.u32 [%rd10], %r4; DONE:"""
    program("mbarrier-producer", body, [("out", "u32", [2800 + 8 * (lane ^ 1) for lane in range(32)])], block=64,
            extra=".shared .align 8 .b64 full; .shared .align 8 .b64 empty; .shared .align 8 .b8 cells[128];\n")

    # Copies whose completion is an arrival: 32 threads arrive by their copies only.
    body = """mov.u32 %r0, %tid.x; setp.ne.u32 %p1, %r0, 0; @%p1 bra READY; mbarrier.init.shared.b64 [gate], 64; READY: bar.sync 0; mov.u32 %r9, cells;
mad.lo.u32 %r1, %r0, 16, %r9; mad.wide.u32 %rd10, %r0, 16, %rd0; cp.async.cg.shared.global [%r1], [%rd10], 16; cp.async.mbarrier.arrive.noinc.shared.b64 [gate];
WAIT: mbarrier.test_wait.parity.shared.b64 %p2, [gate], 0; @!%p2 bra WAIT; xor.b32 %r2, %r0, 63; mad.lo.u32 %r2, %r2, 16, %r9; ld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [%r2];
mad.wide.u32 %rd11, %r0, 16, %rd1; st.global.v4.u32 [%rd11], {%r3, %r4, %r5, %r6};"""
    values = [chance.getrandbits(32) for _ in range(256)]
    expected = [values[4 * (thread ^ 63) + i] for thread in range(64) for i in range(4)]
    program("copies-arrive", body, [("in", "u32", values), ("out", "u32", expected)], block=64, extra=".shared .align 8 .b64 gate; .shared .align 16 .b8 cells[1024];\n")

    # Forms of copies: sizes, zeros for what is not read, a source that is ignored.
    body = """mov.u32 %r9, cells; setp.eq.u32 %p1, %r9, %r9; mov.u32 %r8, 3;
cp.async.ca.shared.global [%r9], [%rd0], 4; cp.async.ca.shared.global.L2::128B [%r9+8], [%rd0+8], 8; cp.async.cg.shared.global [%r9+16], [%rd0+16], 16;
cp.async.commit_group; cp.async.cg.shared.global [%r9+32], [%rd0+32], 16, 6; cp.async.ca.shared.global [%r9+48], [%rd0+48], 4, %r8; cp.async.ca.shared.global [%r9+56], [%rd0+56], 8, 0;
cp.async.wait_group 1; cp.async.cg.shared.global [%r9+64], [%rd0+64], 16, %p1; cp.async.wait_all; mov.u32 %r1, 0;
LOOP: add.u32 %r2, %r9, %r1; ld.shared.u32 %r3, [%r2]; cvt.u64.u32 %rd5, %r1; add.u64 %rd6, %rd1, %rd5; st.global.u32 [%rd6], %r3; add.u32 %r1, %r1, 4; setp.lt.u32 %p2, %r1, 80; @%p2 bra LOOP;"""
    source = [(17 * i + 3) & 255 for i in range(80)]
    expected = [0xCD] * 80
    for at, size, read in ((0, 4, 4), (8, 8, 8), (16, 16, 16), (32, 16, 6), (48, 4, 3), (56, 8, 0), (64, 16, 0)):
        expected[at : at + size] = source[at : at + read] + [0] * (size - read)
    words = [int.from_bytes(bytes(expected[i : i + 4]), "little") for i in range(0, 80, 4)]
    initial = "mov.u32 %r11, cells; mov.u32 %r12, 0; FILL: add.u32 %r13, %r11, %r12; st.shared.u32 [%r13], 0xcdcdcdcd; add.u32 %r12, %r12, 4; setp.lt.u32 %p9, %r12, 80; @%p9 bra FILL;\n"
    program("copies", initial + body, [("in", "u8", source), ("out", "u32", words)], block=1, extra=".shared .align 16 .b8 cells[80];\n")

    program("mbarrier-deadlock", """mbarrier.init.shared.b64 [gate], 2; mbarrier.arrive.shared.b64 %rd5, [gate]; WAIT: mbarrier.test_wait.shared.b64 %p1, [gate], %rd5; @!%p1 bra WAIT;""",
            [("out", "u32", [0])], block=1, extra=".shared .align 8 .b64 gate;\n", fault="warp 0 (1 lane): mbarrier at shared 0x0, line")


def stack():
    # Arrays of run-time sizes: squares below the thread's number, summed; a loop that gives its memory back.
    body = """mov.u32 %r0, %tid.x; add.u32 %r1, %r0, 1; mul.wide.u32 %rd2, %r1, 4; alloca.u64 %rd3, %rd2, 16; mov.u32 %r2, 0;
FILL: mul.lo.u32 %r3, %r2, %r2; mul.wide.u32 %rd4, %r2, 4; add.u64 %rd5, %rd3, %rd4; st.local.u32 [%rd5], %r3; add.u32 %r2, %r2, 1; setp.le.u32 %p1, %r2, %r0; @%p1 bra FILL;
mov.u32 %r9, 2000; LOOP: stacksave.u64 %rd6; alloca.u64 %rd7, 1000; st.local.u32 [%rd7], %r9; stackrestore.u64 %rd6; sub.u32 %r9, %r9, 1; setp.ne.u32 %p1, %r9, 0; @%p1 bra LOOP;
mov.u32 %r2, 0; mov.u32 %r4, 0; SUM: mul.wide.u32 %rd4, %r2, 4; add.u64 %rd5, %rd3, %rd4; ld.local.u32 %r5, [%rd5]; add.u32 %r4, %r4, %r5; add.u32 %r2, %r2, 1; setp.le.u32 %p1, %r2, %r0; @%p1 bra SUM;
mul.wide.u32 %rd4, %r0, 4; add.u64 %rd5, %rd0, %rd4; st.global.u32 [%rd5], %r4;"""
    program("stack", body, [("out", "u32", [sum(i * i for i in range(thread + 1)) for thread in range(32)])])
    program("stack-overflow", "mov.u64 %rd2, 1000000; alloca.u64 %rd3, %rd2;", [("out", "u32", [0])], fault="stack overflow")


def aliases():
    module = """.visible .func (.param .b32 result) twice(.param .b32 value) { .reg .b32 %r<3>; ld.param.u32 %r1, [value]; add.u32 %r2, %r1, %r1; st.param.u32 [result], %r2; ret; }
.func (.param .b32 result) other(.param .b32 value);
.alias other, twice;
.global .u64 pointer = other;
"""
    body = """mov.u32 %r0, %tid.x; { .param .b32 in; .param .b32 out; st.param.u32 [in], %r0; call (out), other, (in); ld.param.u32 %r1, [out]; }
ld.global.u64 %rd2, [pointer]; { .param .b32 in; .param .b32 out; st.param.u32 [in], %r1; shape: .callprototype (.param .b32 _) _ (.param .b32 _); call (out), %rd2, (in), shape; ld.param.u32 %r1, [out]; }
mad.wide.u32 %rd3, %r0, 4, %rd0; st.global.u32 [%rd3], %r1;"""
    program("alias", body, [("out", "u32", [4 * thread for thread in range(32)])], module=module)


def atomics():
    """Many threads at once, in every kind of memory: what remains does not depend on the order."""
    threads = 96
    values = [chance.getrandbits(64) for _ in range(threads)]
    signed = lambda value, bits: value - (1 << bits) if value >> bits - 1 else value
    forms = [
        ("add", "u32", lambda v: sum(v)), ("add", "s32", lambda v: sum(v)), ("add", "u64", lambda v: sum(v)),
        ("min", "u32", min), ("max", "u32", max), ("min", "s32", lambda v: min(signed(x, 32) for x in v)), ("max", "s32", lambda v: max(signed(x, 32) for x in v)),
        ("min", "u64", min), ("max", "u64", max), ("min", "s64", lambda v: min(signed(x, 64) for x in v)), ("max", "s64", lambda v: max(signed(x, 64) for x in v)),
        ("and", "b32", None), ("or", "b32", None), ("xor", "b32", None), ("and", "b64", None), ("or", "b64", None), ("xor", "b64", None),
    ]
    body, expected = "mov.u32 %r0, %tid.x; mad.wide.u32 %rd10, %r0, 8, %rd0; ld.global.u64 %rd2, [%rd10]; cvt.u32.u64 %r2, %rd2; setp.eq.u32 %p1, %r0, 0;\n", []
    for operation, kind, act in forms:
        bits = int(kind[1:])
        mine = [value & (1 << bits) - 1 for value in values]
        start = mine[0] if operation in ("min", "max", "and") else 0
        if act is None:
            total = mine[0]
            for value in mine[1:]:
                total = {"and": total & value, "or": total | value, "xor": total ^ value}[operation]
        else:
            total = act(mine)
        register = "%rd2" if bits == 64 else "%r2"
        for place in ("shared", "global", "generic", "red"):
            at = 8 * len(expected)
            if place in ("shared", "generic"):
                where = "[cell]" if place == "shared" else "[%rd6]"
                space = ".shared" if place == "shared" else ""
                body += f"mov.u64 %rd6, cell; cvta.shared.u64 %rd6, %rd6; @%p1 st.shared.u64 [cell], {start:#x}; bar.sync 0;\n"
                body += f"atom{space}.{operation}.{kind} {'%rd7' if bits == 64 else '%r7'}, {where}, {register}; bar.sync 0;\n"
                body += f"@%p1 ld.shared.u64 %rd8, [cell]; @%p1 st.global.u64 [%rd1+{at}], %rd8; bar.sync 0;\n"
            else:
                body += f"@%p1 st.global.u64 [%rd1+{at}], {start:#x}; bar.sync 0;\n"
                body += f"red.relaxed.gpu.global.{operation}.{kind} [%rd1+{at}], {register};\n" if place == "red" else \
                    f"atom.acq_rel.sys.global.{operation}.{kind} _, [%rd1+{at}], {register};\n"
            expected.append(total & (1 << bits) - 1)
    program("atomics", body, [("in", "u64", values), ("out", "u64", expected)], block=threads, extra=".shared .align 8 .b64 cell;\n")

    # inc and dec wrap: 96 threads count to 9 and back.
    body = """st.shared.u32 [up], 0; st.shared.u32 [down], 0; bar.sync 0; atom.shared.inc.u32 %r1, [up], 9; atom.shared.dec.u32 %r2, [down], 9; bar.sync 0; ld.shared.u32 %r3, [up]; ld.shared.u32 %r4, [down];
st.global.u32 [%rd0], %r3; st.global.u32 [%rd0+4], %r4; LOCK: atom.global.cas.b32 %r5, [%rd0+8], 0, 1; setp.ne.u32 %p1, %r5, 0; @%p1 bra LOCK; ld.volatile.global.u32 %r6, [%rd0+12]; add.u32 %r6, %r6, 1;
st.volatile.global.u32 [%rd0+12], %r6; membar.gl; atom.global.exch.b32 %r7, [%rd0+8], 0; SMALL: ld.volatile.global.u16 %h1, [%rd0+16]; add.u16 %h2, %h1, 3; atom.global.cas.b16 %h3, [%rd0+16], %h1, %h2; setp.ne.u16 %p2, %h3, %h1; @%p2 bra SMALL;"""
    program("atomics-lock", body, [("out", "u32", [96 % 10, (-96) % 10, 0, 96, 288])], block=96, extra=".shared .align 4 .u32 up; .shared .align 4 .u32 down;\n")


mma()
saturating()
wmma()
ldmatrix()
warp()
barriers()
memory_barriers()
stack()
aliases()
atomics()
