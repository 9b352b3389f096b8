"""Tables of loads, stores, address spaces and atomics: python3 memory.py FOLDER"""

import random
import sys

from exact import BF16, F16, F32, F64, arithmetic
from tables import hexadecimal, write_tables

chance = random.Random(11)

# A cell of each thread in shared and local memory, and its own output in global memory; generic addresses of them.
CELLS = (".shared .align 16 .b8 cells[4096]; .local .align 16 .b8 frame[16]; mov.u32 %r0, %tid.x; mov.u32 %r1, cells; "
         "mad.lo.u32 %r1, %r0, 16, %r1; mov.u64 %rd1, frame; cvta.local.u64 %rd2, %rd1; cvt.u64.u32 %rd3, %r1; cvta.shared.u64 %rd4, %rd3; ")


def extended(kind, value, width):
    """A loaded value in a register of that width."""
    bits = int(kind[1:])
    value &= (1 << bits) - 1
    if kind[0] == "s" and value >> bits - 1:
        value |= (1 << width) - (1 << bits)
    return value


def loads(out):
    word = 0x8899AABBCCDDEEFF
    places = [("shared", "%r1"), ("local", "%rd1"), ("", "%rd2"), ("", "%rd4"), ("global", "%a1"), ("volatile.shared", "%r1"),
              ("relaxed.gpu.global", "%a1"), ("acquire.cta.shared", "%r1"), ("global.ca", "%a1"), ("global.cg", "%a1"), ("weak.global", "%a1"),
              ("global.nc.L1::no_allocate.L2::128B", "%a1"), ("shared::cta", "%r1"), ("global.cv", "%a1")]
    for place, address in places:
        dot = f".{place}" if place else ""
        hints = (".nc", ".ca", ".cg", ".cv", ".L1", ".acquire")
        plain = dot
        for hint in (".nc.L1::no_allocate.L2::128B", ".ca", ".cg", ".cv"):
            plain = plain.replace(hint, "")
        store = plain.replace(".acquire", ".release")
        kinds = ["u8", "s8", "b8", "u16", "s16", "b16", "u32", "s32", "b32", "u64", "s64", "b64"]
        body, found = f"st{store}.b64 [{address}], %i0; ", []
        for index, kind in enumerate(kinds):
            offset = 8 - int(kind[1:]) // 8
            body += f"ld{dot}.{kind} %rd5, [{address}+{offset}]; mov.b64 %o{index}, %rd5; "
            found.append(extended(kind, word >> 8 * offset, 64))
        out.append(CELLS + body + f": b64 -> {' '.join(['b64'] * len(kinds))}")
        out.append(f"  {word:#x} = " + hexadecimal(found))
    # Vectors, narrow registers, and stores of a part of a register.
    out.append(CELLS + "st.shared.v2.b64 [%r1], {%i0, %i1}; ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r1]; mov.b32 %o0, %r2; mov.b32 %o1, %r5; "
               "ld.v4.s8 {%h0, %h1, _, %h3}, [%rd4+8]; mov.b16 %o2, %h0; mov.b16 %o3, %h3; ld.shared.v2.f64 {%fd0, %fd1}, [%r1]; mov.b64 %o4, %fd1; "
               "st.local.v4.b16 [%rd1], {%h0, %h1, %h0, %h1}; ld.local.b64 %o5, [%rd1]; st.shared.v4.u8 [%r1+4], {%r2, %r3, %r4, %r5}; ld.shared.v2.b32 {_, %o6}, [%r1]; "
               ": b64 b64 -> b32 b32 b16 b16 b64 b64 b32")
    a, b = 0x1122334455667788, 0x99AABBCCDDEEFF80
    out.append(f"  {a:#x} {b:#x} = {a & 0xFFFFFFFF:#x} {b >> 32:#x} 0xff80 0xffdd {b:#x} 0xffffff80ffffff80 0x99808877"
               .replace("0x99808877", f"{(b >> 32 & 255) << 24 | (b & 255) << 16 | (a >> 32 & 255) << 8 | a & 255:#x}")
               .replace("0xffff_", ""))
    out[-1] = out[-1].replace("0xffdd", f"{extended('s8', b >> 24, 16):#x}").replace(
        "0xffffff80ffffff80", f"{sum(extended('s8', b >> 8 * (i & 1), 16) << 16 * i for i in range(4)):#x}")
    out.append(CELLS + "isspacep.shared %o0, %rd4; isspacep.local %o1, %rd4; isspacep.global %o2, %rd4; isspacep.local %o3, %rd2; isspacep.global %o4, %a1; isspacep.shared %o5, %a1; "
               "cvta.to.shared.u64 %rd5, %rd4; sub.u64 %o6, %rd5, %rd3; cvta.to.local.u64 %rd5, %rd2; sub.u64 %o7, %rd5, %rd1; cvta.global.u64 %rd5, %a1; sub.u64 %o8, %rd5, %a1; "
               ": b32 -> pred pred pred pred pred pred b64 b64 b64")
    out.append("  0 = 1 0 0 1 1 0 0 0 0")
    out.append(CELLS + "prefetch.global.L1 [%a1]; prefetch.L2 [%a1]; prefetchu.L1 [%a1]; applypriority.global.L2::evict_normal [%a1], 128; "
               "createpolicy.fractional.L2::evict_last.b64 %rd5, 1.0; st.global.L2::cache_hint.b32 [%a1], %i0, %rd5; ld.global.L2::cache_hint.b32 %o0, [%a1], %rd5; "
               "membar.cta; membar.gl; membar.sys; fence.sc.gpu; fence.acq_rel.cta; fence.proxy.alias; nanosleep.u32 1; pmevent 1; ldu.global.b32 %o1, [%a1]; : b32 -> b32 b32")
    out.append("  77 = 77 77")


SHARED, GLOBAL, GENERIC_SHARED, GENERIC_LOCAL = (".shared", "%r1"), (".global", "%a1"), ("", "%rd4"), ("", "%rd2")


def changed(space, address, bits, instructions, arity, after=""):
    """A cell of that many bits that gets the first input, is changed, and is read again."""
    kind = f"b{bits}"
    return (CELLS + f"st{space}.{kind} [{address}], %i0; {instructions} ld{space}.{kind} %o1, [{address}]; {after}: "
            + " ".join([kind] * arity) + f" -> {kind} {kind}")


def integer_atomics(out):
    operations = {
        "add": lambda old, b: old + b, "min": min, "max": max, "exch": lambda old, b: b, "and": lambda old, b: old & b,
        "or": lambda old, b: old | b, "xor": lambda old, b: old ^ b, "inc": lambda old, b: 0 if old >= b else old + 1,
        "dec": lambda old, b: b if old == 0 or old > b else old - 1,
    }
    types = {"add": ["u32", "s32", "u64"], "min": ["u32", "s32", "u64", "s64"], "max": ["u32", "s32", "u64", "s64"], "exch": ["b32", "b64"],
             "and": ["b32", "b64"], "or": ["b32", "b64"], "xor": ["b32", "b64"], "inc": ["u32"], "dec": ["u32"]}
    for operation, act in operations.items():
        for kind in types[operation]:
            bits = int(kind[1:])
            mask, sign = (1 << bits) - 1, 1 << bits - 1
            read = lambda value: value - (1 << bits) if kind[0] == "s" and value & sign else value
            for space, address in (SHARED, GENERIC_SHARED, GLOBAL, GENERIC_LOCAL):
                scope = chance.choice(["", ".relaxed.gpu", ".acq_rel.cta", ".release.sys"])
                atomic = f"atom{scope}{space}.{operation}.{kind} %o0, [{address}], %i1;"
                reduction = f"red{space}.{operation if operation != 'exch' else 'or'}.{kind} [{address}], 0; "
                out.append(changed(space, address, bits, atomic, 2, reduction))
                for old, b in [(0, 1), (5, 3), (3, 5), (mask, 1), (sign, sign - 1), (7, 7), (chance.getrandbits(bits), chance.getrandbits(bits))]:
                    out.append(f"  {old:#x} {b:#x} = {old:#x} {act(read(old), read(b)) & mask:#x}")
    for bits in (16, 32, 64):
        for space, address in (SHARED, GENERIC_SHARED, GLOBAL):
            out.append(changed(space, address, bits, f"atom{space}.cas.b{bits} %o0, [{address}], %i1, %i2;", 3))
            for old, expected, new in [(5, 5, 9), (5, 6, 9), ((1 << bits) - 1, (1 << bits) - 1, 0)]:
                out.append(f"  {old:#x} {expected:#x} {new:#x} = {old:#x} {new if old == expected else old:#x}")


def float_atomics(out):
    for format, kind, lanes in ((F32, "f32", 1), (F64, "f64", 1), (F16, "f16", 1), (BF16, "bf16", 1), (F16, "f16x2", 2), (BF16, "bf16x2", 2)):
        bits = format.bits * lanes
        middle = ".noftz" if format.bits == 16 else ""
        one, big, tiny = format.bias << format.f, format.inf - 1, 3
        pairs = [(one, one), (one, one ^ format.sign), (big, big), (one, 1), (tiny, tiny), (tiny, format.sign | 1), (format.inf, format.inf | format.sign), (one + 5, one >> 1)]
        for space, address in (SHARED, GLOBAL, GENERIC_SHARED):
            out.append(changed(space, address, bits, f"atom{space}.add{middle}.{kind} %o0, [{address}], %i1;", 2))
            for index, (a, b) in enumerate(pairs):
                # Only f32 in global memory loses its subnormals.
                add = lambda a, b: arithmetic(format, "add", [a, b], ftz=kind == "f32" and space == ".global")
                c, d = pairs[(index + 1) % len(pairs)]
                old, value, found = a, b, add(a, b)
                if lanes == 2:
                    old, value, found = a | c << 16, b | d << 16, found | add(c, d) << 16
                if found is None or format is F32 and found == F32.nan:
                    continue
                out.append(f"  {old:#x} {value:#x} = {old:#x} {found:#x}")


write_tables(sys.argv[1], "memory.py", (
    ("memory", loads, "Loads, stores and address spaces"),
    ("atomics-integer", integer_atomics, "Atomics on integers"),
    ("atomics-float", float_atomics, "Atomic additions of floating-point numbers"),
))
