"""Tables of integer arithmetic, logic and bit fields: python3 integers.py FOLDER"""

import random
import sys

from tables import write_tables

chance = random.Random(7)
TYPES = ["u16", "s16", "u32", "s32", "u64", "s64"]


def bits(name):
    return int("".join(filter(str.isdigit, name)))


def read(name, pattern):
    pattern &= (1 << bits(name)) - 1
    return pattern - (1 << bits(name)) if name[0] == "s" and pattern >> bits(name) - 1 else pattern


def limits(name):
    width = bits(name)
    return (-(1 << width - 1), (1 << width - 1) - 1) if name[0] == "s" else (0, (1 << width) - 1)


def edges(width):
    top = 1 << width - 1
    return [0, 1, 2, 7, top - 1, top, top + 1, 2 * top - 1, 2 * top - 7, chance.getrandbits(width), chance.getrandbits(width // 2)]


def pairs(width, count=24):
    all_pairs = [(a, b) for a in edges(width) for b in edges(width)]
    chance.shuffle(all_pairs)
    return all_pairs[:count] + [(chance.getrandbits(width), chance.getrandbits(width)) for _ in range(4)]


def quotient(a, b):
    size = abs(a) // abs(b)
    return size if (a < 0) == (b < 0) else -size


class Table:
    def __init__(self, out):
        self.out = out

    def add(self, body, inputs, outputs, cases):
        """`cases` are (inputs, outputs), as integers of any sign."""
        names = " ".join(inputs), " ".join(outputs)
        self.out.append(f"{body} : {names[0]} -> {names[1]}")
        for given, found in cases:
            cut = lambda kinds, values: " ".join(
                str(int(value)) if kind == "pred" else f"{value & (1 << bits(kind)) - 1:#x}" for kind, value in zip(kinds, values)
            )
            self.out.append(f"  {cut(inputs, given)} = {cut(outputs, found)}")


def arithmetic(table):
    for name in TYPES:
        width, kind = bits(name), f"b{bits(name)}"
        low, high = limits(name)
        both = [(read(name, a), read(name, b)) for a, b in pairs(width)]
        basic = {
            "add": lambda a, b: a + b,
            "sub": lambda a, b: a - b,
            "min": min,
            "max": max,
            "mul.lo": lambda a, b: a * b,
            "mul.hi": lambda a, b: a * b >> width,
        }
        body = " ".join(f"{operation}.{name} %o{i}, %i0, %i1;" for i, operation in enumerate(basic))
        table.add(body, [kind] * 2, [kind] * len(basic), [(p, [f(*p) for f in basic.values()]) for p in both])
        divided = [(a, b) for a, b in both if b != 0 and not (b == -1 and a == low)]
        table.add(f"div.{name} %o0, %i0, %i1; rem.{name} %o1, %i0, %i1;", [kind] * 2, [kind] * 2,
                  [(p, [quotient(*p), p[0] - quotient(*p) * p[1]]) for p in divided])
        triples = [(a, b, read(name, chance.choice(edges(width)))) for a, b in both]
        table.add(f"mad.lo.{name} %o0, %i0, %i1, %i2; mad.hi.{name} %o1, %i0, %i1, %i2; sad.{name} %o2, %i0, %i1, %i2;",
                  [kind] * 3, [kind] * 3,
                  [((a, b, c), [a * b + c, (a * b >> width) + c, c + abs(a - b)]) for a, b, c in triples])
        if width < 64:
            wide = f"b{2 * width}"
            table.add(f"mul.wide.{name} %o0, %i0, %i1; mad.wide.{name} %o1, %i0, %i1, %i2;", [kind, kind, wide], [wide] * 2,
                      [((a, b, c * 77777), [a * b, a * b + c * 77777]) for a, b, c in triples])
        if name[0] == "s":
            table.add(f"neg.{name} %o0, %i0; abs.{name} %o1, %i0;", [kind], [kind] * 2,
                      [((read(name, a),), [-read(name, a), abs(read(name, a))]) for a in edges(width)])
        names = ["eq", "ne", "lt", "le", "gt", "ge"] + (["lo", "ls", "hi", "hs"] if name[0] == "u" else [])
        tests = {
            "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
            "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "lo": lambda a, b: a < b, "ls": lambda a, b: a <= b,
            "hi": lambda a, b: a > b, "hs": lambda a, b: a >= b,
        }
        body = " ".join(f"setp.{test}.{name} %o{i}, %i0, %i1;" for i, test in enumerate(names))
        table.add(body, [kind] * 2, ["pred"] * len(names), [(p, [tests[n](*p) for n in names]) for p in both])
        joins = {"and": lambda a, b: a and b, "or": lambda a, b: a or b, "xor": lambda a, b: a != b}
        body = " ".join(f"setp.le.{join}.{name} %o{2 * i}|%o{2 * i + 1}, %i0, %i1, %i2;" for i, join in enumerate(joins))
        cases = []
        for index, (a, b) in enumerate(both[:10]):
            c = bool(index & 1)
            cases.append(((a, b, c), [f(x, c) for f in joins.values() for x in (a <= b, not a <= b)]))
        table.add(body, [kind, kind, "pred"], ["pred"] * 6, cases)
        table.add(f"set.ge.u32.{name} %o0, %i0, %i1; set.lt.f32.{name} %o1, %i0, %i1; set.eq.xor.s32.{name} %o2, %i0, %i1, !%i2;",
                  [kind, kind, "pred"], ["b32"] * 3,
                  [((a, b, i & 1), [-(a >= b), 0x3F800000 * (a < b), -((a == b) != (not i & 1))]) for i, (a, b) in enumerate(both[:10])])
        table.add(f"selp.{name} %o0, %i0, %i1, %i2; slct.{name}.s32 %o1, %i0, %i1, %i3; slct.{name}.f32 %o2, %i0, %i1, %i4;",
                  [kind, kind, "pred", "b32", "f32"], [kind] * 3,
                  [((a, b, i & 1, c, f), [a if i & 1 else b, a if c >= 0 else b, a if yes else b])
                   for i, ((a, b), (c, f, yes)) in enumerate(zip(both, [(0, 0, True), (-1, 0x80000000, True), (5, 0xBF800000, False),
                                                                       (-2**31, 0x7FC00000, False), (7, 0x7F800000, True), (1, 0x80000001, False)]))])
    table.add("add.sat.s32 %o0, %i0, %i1; sub.sat.s32 %o1, %i0, %i1; mad.hi.sat.s32 %o2, %i0, %i1, %i0;", ["b32"] * 2, ["b32"] * 3,
              [((a, b), [min(max(x, -2**31), 2**31 - 1) for x in (a + b, a - b, (a * b >> 32) + a)])
               for a, b in [(read("s32", a), read("s32", b)) for a, b in pairs(32, 40)]])
    for signed in "us":
        short = lambda value: read(signed + "32", value << 8) >> 8
        table.add(f"mul24.lo.{signed}32 %o0, %i0, %i1; mul24.hi.{signed}32 %o1, %i0, %i1; "
                  f"mad24.lo.{signed}32 %o2, %i0, %i1, %i1; mad24.hi.{signed}32 %o3, %i0, %i1, %i0;", ["b32"] * 2, ["b32"] * 4,
                  [((a, b), [short(a) * short(b), short(a) * short(b) >> 16, short(a) * short(b) + b, (short(a) * short(b) >> 16) + a])
                   for a, b in pairs(32)])
    for width in (32, 64):
        name, kind, mask = f"u{width}", f"b{width}", (1 << width) - 1
        cases = []
        for a, b in pairs(width):
            c, d = chance.getrandbits(width), chance.choice([0, mask])
            low, borrow = a + b, a - b
            product = a * b
            cases.append(((a, b, c, d), [low, c + d + (low >> width), borrow, c - d - (borrow < 0),
                                         (product & mask) + c, (product >> width) + d + ((product & mask) + c >> width)]))
        table.add(f"add.cc.{name} %o0, %i0, %i1; addc.{name} %o1, %i2, %i3; sub.cc.{name} %o2, %i0, %i1; subc.{name} %o3, %i2, %i3; "
                  f"mad.lo.cc.{name} %o4, %i0, %i1, %i2; madc.hi.{name} %o5, %i0, %i1, %i3;", [kind] * 4, [kind] * 6, cases)
        chain = []
        for a, b in pairs(width, 12):
            c, d, e, f = (chance.choice([0, 1, mask, chance.getrandbits(width)]) for _ in range(4))
            one = a + b
            two = c + d + (one >> width)
            first = a - b
            second = c - d - (first < 0)
            chain.append(((a, b, c, d, e, f), [one, two, e + f + (two >> width), first, second, e - f - (second < 0)]))
        table.add(f"add.cc.{name} %o0, %i0, %i1; addc.cc.{name} %o1, %i2, %i3; addc.{name} %o2, %i4, %i5; "
                  f"sub.cc.{name} %o3, %i0, %i1; subc.cc.{name} %o4, %i2, %i3; subc.{name} %o5, %i4, %i5;", [kind] * 6, [kind] * 6, chain)


def dot(table):
    for a_type in "us":
        for b_type in "us":
            cases, halves = [], []
            for a, b in pairs(32, 16):
                c = chance.getrandbits(32)
                bytes_of = lambda kind, value: [read(kind + "8", value >> 8 * i) for i in range(4)]
                words = [read(a_type + "16", a >> 16 * i) for i in range(2)]
                small = bytes_of(b_type, b)
                cases.append(((a, b, c), [c + sum(x * y for x, y in zip(bytes_of(a_type, a), small)),
                                          c + words[0] * small[0] + words[1] * small[1], c + words[0] * small[2] + words[1] * small[3]]))
            table.add(f"dp4a.{a_type}32.{b_type}32 %o0, %i0, %i1, %i2; dp2a.lo.{a_type}32.{b_type}32 %o1, %i0, %i1, %i2; "
                      f"dp2a.hi.{a_type}32.{b_type}32 %o2, %i0, %i1, %i2;", ["b32"] * 3, ["b32"] * 3, cases)


def bit_operations(table):
    for width in (16, 32, 64):
        kind, mask = f"b{width}", (1 << width) - 1
        body = " ".join(f"{name}.{kind} %o{i}, %i0, %i1;" for i, name in enumerate(("and", "or", "xor")))
        table.add(f"{body} not.{kind} %o3, %i0; cnot.{kind} %o4, %i0;", [kind] * 2, [kind] * 5,
                  [((a, b), [a & b, a | b, a ^ b, ~a, a == 0]) for a, b in pairs(width, 12)])
        shifts = [0, 1, width // 2, width - 1, width, width + 1, 63, 64, 255, 1 << 31, 0xFFFFFFFF]
        signed = lambda value: read(f"s{width}", value)
        table.add(f"shl.{kind} %o0, %i0, %i1; shr.u{width} %o1, %i0, %i1; shr.s{width} %o2, %i0, %i1; shr.{kind} %o3, %i0, %i1;", [kind, "b32"], [kind] * 4,
                  [((a, n), [a << min(n, width), a >> min(n, width), signed(a) >> min(n, width), a >> min(n, width)])
                   for n in shifts for a in (edges(width)[4], edges(width)[8])])
        if width == 16:
            continue
        reverse = lambda value: int(f"{value:0{width}b}"[::-1], 2)
        table.add(f"popc.{kind} %o0, %i0; clz.{kind} %o1, %i0; brev.{kind} %o2, %i0;", [kind], ["b32", "b32", kind],
                  [((a,), [bin(a).count("1"), width - a.bit_length(), reverse(a)]) for a in edges(width)])

        def find(value, name, amount):
            value = read(name, value)
            top = (~value if value < 0 else value).bit_length() - 1
            return -1 if top < 0 else width - 1 - top if amount else top

        for name in (f"u{width}", f"s{width}"):
            table.add(f"bfind.{name} %o0, %i0; bfind.shiftamt.{name} %o1, %i0;", [kind], ["b32"] * 2,
                      [((a,), [find(a, name, False), find(a, name, True)]) for a in edges(width)])

            def extract(value, position, length):
                position, length = position & 255, length & 255
                if length == 0:
                    return 0
                sign = value >> min(position + length - 1, width - 1) & 1 if name[0] == "s" else 0
                found = 0
                for i in range(width):
                    bit = value >> position + i & 1 if i < length and position + i < width else sign
                    found |= bit << i
                return found

            fields = [(0, 0), (0, 1), (3, 5), (0, width), (width - 1, 1), (width - 4, 8), (width, 4), (width + 1, 300), (7, 255), (255, 255), (5, 0)]
            table.add(f"bfe.{name} %o0, %i0, %i1, %i2;", [kind, "b32", "b32"], [kind],
                      [((a, p, n), [extract(a, p, n)]) for p, n in fields for a in (edges(width)[9], edges(width)[6], mask)])

        def insert(a, b, position, length):
            position, length = position & 255, length & 255
            for i in range(length):
                if position + i < width:
                    b = b & ~(1 << position + i) | (a >> i & 1) << position + i
            return b

        table.add(f"bfi.{kind} %o0, %i0, %i1, %i2, %i3;", [kind, kind, "b32", "b32"], [kind],
                  [((a, b, p, n), [insert(a, b, p, n)]) for p, n in fields for a, b in pairs(width, 0)[:2]])
    for mode in ("clamp", "wrap"):
        amount = (lambda n: min(n, 32)) if mode == "clamp" else (lambda n: n & 31)
        cases = []
        for n in (0, 1, 5, 31, 32, 33, 63, 0xFFFFFFFF):
            for a, b in pairs(32, 0)[:2]:
                pair = b << 32 | a
                cases.append(((a, b, n), [pair << amount(n) >> 32, pair >> amount(n)]))
        table.add(f"shf.l.{mode}.b32 %o0, %i0, %i1, %i2; shf.r.{mode}.b32 %o1, %i0, %i1, %i2;", ["b32"] * 3, ["b32"] * 2, cases)
        masks = []
        for a, b in [(0, 0), (0, 32), (4, 8), (31, 1), (31, 4), (32, 1), (0, 33), (8, 0xFFFFFFFF), (0xFFFFFFFF, 3), (36, 36)]:
            first, length = (a, b) if mode == "clamp" else (a & 31, b & 31)
            masks.append(((a, b), [(((1 << min(length, 32)) - 1) << min(first, 32))]))
        table.add(f"bmsk.{mode}.b32 %o0, %i0, %i1;", ["b32"] * 2, ["b32"], masks)
        for name in ("u32", "s32"):
            cases = []
            for a in (0x12345678, 0xFFFFFFFF, 0x80, 0x8000):
                for n in (0, 1, 8, 16, 31, 32, 40, 0xFFFFFFFF):
                    length = amount(n)
                    cut = a & (1 << length) - 1
                    if name == "s32" and length and cut >> length - 1:
                        cut -= 1 << length
                    cases.append(((a, n), [cut]))
            table.add(f"szext.{mode}.{name} %o0, %i0, %i1;", ["b32"] * 2, ["b32"], cases)
    for immediate in (0x00, 0x01, 0x80, 0x96, 0xE8, 0xCA, 0x1E, 0xFF):
        cases = []
        for a, b in pairs(32, 0)[:3]:
            c = chance.getrandbits(32)
            found = 0
            for i in range(32):
                index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1
                found |= (immediate >> index & 1) << i
            cases.append(((a, b, c), [found]))
        table.add(f"lop3.b32 %o0, %i0, %i1, %i2, {immediate:#x};", ["b32"] * 3, ["b32"], cases)
    table.add("lop3.or.b32 %o0|%o1, %i0, %i1, %i2, 0x80, %i3; lop3.and.b32 %o2|%o3, %i0, %i1, %i2, 0x80, %i3;",
              ["b32", "b32", "b32", "pred"], ["b32", "pred", "b32", "pred"],
              [((a, b, c, p), [a & b & c, a & b & c != 0 or p, a & b & c, a & b & c != 0 and p])
               for a, b, c in [(1, 2, 4), (7, 6, 12), (0, 0, 0)] for p in (0, 1)])
    cases = []
    for selector in (0x3210, 0x7654, 0x0123, 0x8F4B, 0xFFFF, 0x5147, 0xC8A9):
        a, b = 0x83A5127F, 0x0180FE44
        source, found = b << 32 | a, 0
        for i in range(4):
            control = selector >> 4 * i & 15
            byte = source >> 8 * (control & 7) & 255
            found |= (255 * (byte >> 7) if control & 8 else byte) << 8 * i
        cases.append(((a, b, selector), [found]))
    table.add("prmt.b32 %o0, %i0, %i1, %i2;", ["b32"] * 3, ["b32"], cases)
    # Bytes of the source by mode and selector, highest first: the table of the specification.
    modes = {
        "f4e": ["3210", "4321", "5432", "6543"], "b4e": ["5670", "6701", "7012", "0123"], "rc8": ["0000", "1111", "2222", "3333"],
        "ecl": ["3210", "3211", "3222", "3333"], "ecr": ["0000", "1110", "2210", "3210"], "rc16": ["1010", "3232", "1010", "3232"],
    }
    for mode, rows in modes.items():
        source = 0x8786858483828180
        table.add(f"prmt.b32.{mode} %o0, %i0, %i1, %i2;", ["b32"] * 3, ["b32"],
                  [((source & 0xFFFFFFFF, source >> 32, c), [int("".join(f"8{digit}" for digit in rows[c & 3]), 16)]) for c in range(6)])
    nth = []
    for mask, base, offset in [(0xF0F0, 0, 1), (0xF0F0, 4, 1), (0xF0F0, 4, 5), (0xF0F0, 31, -1), (0xF0F0, 12, -1), (0xF0F0, 12, -2), (0xF0F0, 4, 0),
                               (0xF0F0, 3, 0), (0xF0F0, 0, 9), (0xF0F0, 3, -1), (0, 0, 1), (0xFFFFFFFF, 31, 1), (0xFFFFFFFF, 0, 32), (0xFFFFFFFF, 0, 33)]:
        places = [i for i in (range(base, 32) if offset >= 0 else range(base, -1, -1)) if mask >> i & 1]
        if offset == 0:
            found = base if mask >> base & 1 else -1
        else:
            found = places[abs(offset) - 1] if abs(offset) <= len(places) else -1
        nth.append(((mask, base, offset), [found]))
    table.add("fns.b32 %o0, %i0, %i1, %i2;", ["b32"] * 3, ["b32"], nth)


def conversions(table):
    for source in ["u8", "s8"] + TYPES:
        for target in ["u8", "s8"] + TYPES:
            kinds = [f"b{max(bits(name), 16)}" for name in (source, target)]
            low, high = limits(target)
            numbers = [read(source, value) for value in edges(bits(source))]
            out_bits = int(kinds[1][1:])
            plain = [read(target, number) for number in numbers]
            table.add(f"cvt.{target}.{source} %o0, %i0; cvt.sat.{target}.{source} %o1, %i0;" if (low, high) != limits(source) else f"cvt.{target}.{source} %o0, %i0;",
                      [kinds[0]], [kinds[1]] * (2 if (low, high) != limits(source) else 1),
                      [((number,), [value, min(max(number, low), high)]) for number, value in zip(numbers, plain)])
    clamp = lambda value, low, high: min(max(value, low), high)
    both = [(read("s32", a), read("s32", b)) for a, b in pairs(32, 20)]
    table.add("cvt.pack.sat.s16.s32 %o0, %i0, %i1; cvt.pack.sat.u16.s32 %o1, %i0, %i1;", ["b32"] * 2, ["b32"] * 2,
              [((a, b), [(clamp(a, -32768, 32767) & 0xFFFF) << 16 | clamp(b, -32768, 32767) & 0xFFFF,
                         clamp(a, 0, 65535) << 16 | clamp(b, 0, 65535)]) for a, b in both])
    cases = []
    for a, b in both:
        c, found = chance.getrandbits(32), []
        for width, signed in ((8, True), (8, False), (4, True), (4, False), (2, True), (2, False)):
            low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
            cut = lambda value: clamp(value, low, high) & (1 << width) - 1
            found.append(c << 2 * width | cut(a) << width | cut(b))
        cases.append(((a, b, c), found))
    table.add(" ".join(f"cvt.pack.sat.{name}.s32.b32 %o{i}, %i0, %i1, %i2;" for i, name in enumerate(("s8", "u8", "s4", "u4", "s2", "u2"))),
              ["b32"] * 3, ["b32"] * 6, cases)


def moves(table):
    table.add("mov.b32 %o0, {%i0, %i1}; mov.b32 {%o1, %o2}, %i2; mov.b64 %o3, {%i2, %i2}; mov.b64 {%o4, _}, %i3; mov.b64 {%h0, %h1, %h2, %h3}, %i3; mov.b16 %o5, %h2; mov.b64 %o6, {%h3, %h2, %h1, %h0};",
              ["b16", "b16", "b32", "b64"], ["b32", "b16", "b16", "b64", "b32", "b16", "b64"],
              [((0x1234, 0x5678, 0x9ABCDEF0, 0x1122334455667788),
                [0x56781234, 0xDEF0, 0x9ABC, 0x9ABCDEF09ABCDEF0, 0x55667788, 0x3344, 0x7788556633441122])])
    table.add("mov.pred %o0, %i0; not.pred %o1, %i0; and.pred %o2, %i0, %i1; or.pred %o3, %i0, %i1; xor.pred %o4, %i0, %i1; selp.b32 %o5, 3, 4, !%i1;",
              ["pred", "pred"], ["pred"] * 5 + ["b32"],
              [((a, b), [a, 1 - a, a & b, a | b, a ^ b, 4 if b else 3]) for a in (0, 1) for b in (0, 1)])
    table.add("selp.f32 %o0, %i0, %i1, %i2; selp.b16 %o1, %i3, 7, %i2; selp.f64 %o2, %i4, 0d4000000000000000, %i2; selp.u16 %o3, 3, %i3, %i2; mov.f32 %o4, %i1; mov.f64 %o5, %i4;",
              ["f32", "f32", "pred", "b16", "f64"], ["f32", "b16", "f64", "b16", "f32", "f64"],
              [((1, 2, p, 0x8001, 5), [1 if p else 2, 0x8001 if p else 7, 5 if p else 0x4000000000000000, 3 if p else 0x8001, 2, 5]) for p in (0, 1)])
    # A guard that the guarded instruction overwrites.
    table.add("mov.pred %p1, %i0; setp.lt.u32 %p2, %i1, 5; @%p1 setp.lt.and.u32 %p1|%p2, %i1, 7, %i2; mov.pred %o0, %p1; mov.pred %o1, %p2;",
              ["pred", "b32", "pred"], ["pred", "pred"],
              [((p, a, q), [a < 7 and q if p else p, not a < 7 and q if p else a < 5]) for p in (0, 1) for a in (3, 9) for q in (0, 1)])


def video(table):
    part = lambda name, value, lane, width: read(name[0] + str(width), value >> lane * width)
    clamp = lambda value, name, width: min(max(value, limits(name[0] + str(width))[0]), limits(name[0] + str(width))[1])
    operations = {
        "vadd": lambda a, b: a + b, "vsub": lambda a, b: a - b, "vabsdiff": lambda a, b: abs(a - b), "vmin": min, "vmax": max,
        "vavrg": lambda a, b: a + b + (a + b >= 0) >> 1,
    }
    for lanes in (1, 2, 4):
        width = 32 // lanes
        suffix = "" if lanes == 1 else str(lanes)
        for name, act in operations.items():
            if name == "vavrg" and lanes == 1:
                continue
            for a_type, b_type, d_type in (("u32", "u32", "u32"), ("s32", "s32", "s32"), ("u32", "s32", "s32")):
                cases = []
                for a, b in pairs(32, 6):
                    c = chance.getrandbits(32)
                    values = [act(part(a_type, a, i, width), part(b_type, b, i, width)) for i in range(lanes)]
                    pack = lambda items: sum((item & (1 << width) - 1) << width * i for i, item in enumerate(items))
                    cases.append(((a, b, c), [pack(values), pack([clamp(v, d_type, width) for v in values]), c + sum(values)]))
                types = f"{d_type}.{a_type}.{b_type}"
                third = "" if lanes == 1 else ", %i2"
                table.add(f"{name}{suffix}.{types} %o0, %i0, %i1{third}; {name}{suffix}.{types}.sat %o1, %i0, %i1{third}; "
                          f"{name}{suffix}.{types}.add %o2, %i0, %i1, %i2;", ["b32"] * 3, ["b32"] * 3, cases)
        if lanes > 1:
            cases = []
            for a, b in [(0x01FF7F80, 0x01FF807F), (0, 0xFFFFFFFF)]:
                less = [int(part("s32", a, i, width) < part("s32", b, i, width)) for i in range(lanes)]
                same = [int(part("u32", a, i, width) == part("u32", b, i, width)) for i in range(lanes)]
                cases.append(((a, b, 5), [sum(x << width * i for i, x in enumerate(less)), 5 + sum(same)]))
            table.add(f"vset{suffix}.s32.s32.lt %o0, %i0, %i1, %i2; vset{suffix}.u32.u32.eq.add %o1, %i0, %i1, %i2;", ["b32"] * 3, ["b32"] * 2, cases)
    table.add("vset.s32.u32.lt %o0, %i0, %i1; vset.u32.u32.ge.add %o1, %i0, %i1, %i2;", ["b32"] * 3, ["b32"] * 2,
              [((a, b, 5), [int(read("s32", a) < b), 5 + int(a >= b)]) for a, b in ((0xFFFFFFFF, 0), (3, 7), (7, 7), (0x80000000, 0x80000000))])
    table.add("vadd.s32.s32.s32.max %o0, %i0, %i1, %i2; vsub.u32.u32.u32.min %o1, %i0, %i1, %i2;", ["b32"] * 3, ["b32"] * 2,
              [((1, 2, -5), [3, 0xFFFFFFFB]), ((-9, 2, -5), [-5, 0xFFFFFFF5 & 0xFFFFFFFF]), ((5, 3, 7), [8, 2])])


def filled(fill):
    return lambda out: fill(Table(out))


write_tables(sys.argv[1], "integers.py", (
    ("integer-arithmetic", filled(arithmetic), "Integer arithmetic and comparison, of every type"),
    ("integer-dot", filled(dot), "Dot products of small integers"),
    ("integer-bits", filled(bit_operations), "Logic, shifts and bit fields"),
    ("integer-convert", filled(conversions), "Conversions between integers"),
    ("integer-video", filled(video), "Video instructions"),
    ("moves", filled(moves), "Moves, packing and predicates"),
))
