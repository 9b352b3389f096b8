"""Tables of floating-point arithmetic, comparison and conversion: python3 floats.py FOLDER"""

import random
import struct
import sys
from fractions import Fraction
from math import cos, exp2, log2, sin, sqrt, tanh

from exact import BF16, F16, F32, F64, INF, NAN, NINF, arithmetic, extreme, is_special, pack, signed
from tables import hexadecimal, write_tables

MODES = ["rn", "rz", "rm", "rp"]
chance = random.Random(20)

EDGES = {
    "f32": [0, 0x80000000, 1, 0x807FFFFF, 0x00800000, 0x3F800000, 0xBF800001, 0x40490FDB, 0x7F7FFFFF, 0x7F800000,
            0xFF800000, 0x7FC00000],
    "f64": [0, 1 << 63, 1, 0x800FFFFFFFFFFFFF, 0x0010000000000000, 0x3FF0000000000000, 0xBFF0000000000001,
            0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000],
    "f16": [0, 0x8000, 1, 0x83FF, 0x0400, 0x3C00, 0xBC01, 0x7BFF, 0x7C00, 0xFC00, 0x7E00],
    "bf16": [0, 0x8000, 1, 0x807F, 0x0080, 0x3F80, 0xBF81, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0],
}


def near(format, count):
    """Numbers whose exponents are close, so that rounding and cancellation happen."""
    for _ in range(count):
        exponent = format.bias + chance.randrange(-format.f // 2, format.f // 2)
        exponent = min(max(exponent, 0), (1 << format.e) - 2)
        yield chance.getrandbits(1) << (format.bits - 1) | exponent << format.f | chance.getrandbits(format.f)


def pairs(format, edges, count):
    edge = [(a, b) for a in edges for b in edges]
    chance.shuffle(edge)
    low = [(chance.getrandbits(format.f + 1), next(near(format, 1))) for _ in range(4)]
    return edge[:count] + list(zip(near(format, 14), near(format, 14))) + low


def show(format, bits):
    return "nan" if bits is None else f"{bits:#0{format.bits // 4 + 2}x}"


def shown(format, values):
    return " ".join(show(format, bits) for bits in values)


def line(format, inputs, outputs):
    return f"  {shown(format, inputs)} = {shown(format, outputs)}"


def register(format):
    return "b16" if format.bits == 16 else format.name


def in_each_mode(instruction, modes, sources="%i0"):
    """The instruction, `MODE` in it replaced, with a result of its own for each mode."""
    return " ".join(f"{instruction.replace('MODE', mode)} %o{index}, {sources};" for index, mode in enumerate(modes))


INTEGRAL_MODES = ["rni", "rzi", "rmi", "rpi"]


def wide_tables(out):
    for format in (F32, F64):
        name, edges = format.name, EDGES[format.name]
        options = [("", {}), (".ftz", {"ftz": True}), (".sat", {"sat": True}), (".ftz.sat", {"ftz": True, "sat": True})]
        for suffix, flags in options if format is F32 else options[:1]:
            count = 60 if not suffix else 24
            for operation in ("add", "sub", "mul", "div", "fma", "rcp", "sqrt"):
                if "sat" in suffix and operation in ("div", "rcp", "sqrt"):
                    continue
                arity = {"fma": 3, "rcp": 1, "sqrt": 1}.get(operation, 2)
                operands = ", ".join(f"%i{index}" for index in range(arity))
                body = in_each_mode(f"{operation}.MODE{suffix}.{name}", MODES, operands)
                types = " ".join([name] * arity)
                out.append(f"{body} : {types} -> {name} {name} {name} {name}")
                if arity == 1:
                    cases = [(edge,) for edge in edges] + [(bits,) for bits in near(format, 12)]
                elif arity == 2:
                    cases = pairs(format, edges, count)
                else:
                    cases = [(a, b, chance.choice(edges)) for a, b in pairs(format, edges, count // 2)]
                    cases += [(a, b, c) for a, b, c in zip(near(format, 20), near(format, 20), near(format, 20))]
                    for a, b in zip(near(format, 8), near(format, 8)):
                        # Almost all of the product is cancelled.
                        c = arithmetic(format, "mul", [a, b]) ^ format.sign
                        cases.append((a, b, c))
                for case in cases:
                    out.append(line(format, case, [arithmetic(format, operation, case, mode, **flags) for mode in MODES]))
        for operation in ("min", "max"):
            for suffix in ("", ".ftz", ".NaN") if format is F32 else ("",):
                out.append(f"{operation}{suffix}.{name} %o0, %i0, %i1; : {name} {name} -> {name}")
                for case in pairs(format, edges, 40):
                    case = tuple(format.flush(bits) for bits in case) if suffix == ".ftz" else case
                    found = extreme(format, operation, case, propagate=suffix == ".NaN")
                    out.append(line(format, case, [found]))
        for operation in ("neg", "abs"):
            for suffix in ("", ".ftz") if format is F32 else ("",):
                out.append(f"{operation}{suffix}.{name} %o0, %i0; : {name} -> {name}")
                for bits in edges:
                    inner = format.flush(bits) if suffix else bits
                    result = inner ^ format.sign if operation == "neg" else inner & ~format.sign
                    out.append(line(format, [bits], [None if format.read(bits) == NAN else result]))
        out.append(f"copysign.{name} %o0, %i0, %i1; : {name} {name} -> {name}")
        for a, b in pairs(format, edges, 12):
            out.append(line(format, (a, b), [a & format.sign | b & ~format.sign]))


def half_tables(out):
    for format in (F16, BF16):
        name, edges = format.name, EDGES[format.name]
        if format is F16:
            options = [("", {}), (".ftz", {"ftz": True}), (".sat", {"sat": True})]
            operations = [("add", ""), ("sub", ""), ("mul", ""), ("fma", ".rn")]
        else:
            options = [("", {})]
            operations = [("add", ".rn"), ("sub", ".rn"), ("mul", ".rn"), ("fma", ".rn")]
        for operation, rounding in operations:
            arity = 3 if operation == "fma" else 2
            more = [(".relu", {"relu": True})] if operation == "fma" else []
            for suffix, flags in options + more:
                cases = [case + (chance.choice(edges),) * (arity - 2) for case in pairs(format, edges, 40)]
                cases += [(a, b, c)[:arity] for a, b, c in zip(near(format, 12), near(format, 12), near(format, 12))]
                halves(out, f"{operation}{rounding}{suffix}", format, cases,
                       lambda case: arithmetic(format, operation, case, **flags))
        for operation in ("min", "max"):
            for suffix in ("", ".NaN"):
                halves(out, f"{operation}{suffix}", format, pairs(format, edges, 40),
                       lambda case: extreme(format, operation, case, propagate=bool(suffix)))
        for operation in ("neg", "abs"):
            cases = [(bits,) for bits in edges if format.read(bits) != NAN] + [(bits,) for bits in near(format, 4)]
            halves(out, operation, format, cases,
                   lambda case: case[0] ^ 0x8000 if operation == "neg" else case[0] & 0x7FFF)


def halves(out, operation, format, cases, compute):
    """The scalar form, and the packed one on pairs of cases."""
    name, arity = format.name, len(cases[0])
    operands = ", ".join(f"%i{index}" for index in range(arity))
    out.append(f"{operation}.{name} %o0, {operands}; : " + " ".join(["b16"] * arity) + " -> b16")
    results = [compute(case) for case in cases]
    out.extend(line(format, case, [found]) for case, found in zip(cases, results))
    out.append(f"{operation}.{name}x2 %o0, {operands}; : " + " ".join(["b32"] * arity) + " -> b32")
    step = 3
    for low in range(0, len(cases) - step, 4):
        high = low + step
        words = [a << 16 | b for a, b in zip(cases[high], cases[low])]
        words.append(results[high] << 16 | results[low])
        out.append("  " + " ".join(f"{word:#010x}" for word in words[:-1]) + f" = {words[-1]:#010x}")


COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"]


def holds(name, a, b):
    nan = NAN in (a, b)
    if name in ("num", "nan"):
        return (name == "nan") == nan
    if nan:
        return name.endswith("u") and name != "num"
    number = lambda value: {INF: Fraction(2) ** 2000, NINF: -Fraction(2) ** 2000}[value] if is_special(value) else signed(value)
    a, b = number(a), number(b)
    return {"e": a == b, "n": a != b, "l": a < b, "g": a > b}[name[0]] or name[:2] in ("le", "ge") and a == b


def comparison_tables(out):
    for format in (F32, F64, F16, BF16):
        name, edges = format.name, EDGES[format.name]
        for suffix in ("", ".ftz") if format is F32 else ("",):
            for half in (COMPARISONS[:7], COMPARISONS[7:]):
                body = " ".join(f"setp.{c}{suffix}.{name} %o{i}, %i0, %i1;" for i, c in enumerate(half))
                out.append(f"{body} : {register(format)} {register(format)} ->" + " pred" * len(half))
                for case in pairs(format, edges, 24):
                    inner = [format.flush(bits) if suffix else bits for bits in case]
                    found = [int(holds(c, format.read(inner[0]), format.read(inner[1]))) for c in half]
                    out.append(f"  {shown(format, case)}" + " = " + " ".join(map(str, found)))
        for combine, act in (("and", lambda a, c: a & c), ("or", lambda a, c: a | c), ("xor", lambda a, c: a ^ c)):
            out.append(f"setp.lt.{combine}.{name} %o0|%o1, %i0, %i1, %i2; setp.geu.{combine}.{name} %o2, %i0, %i1, !%i2; "
                       f": {register(format)} {register(format)} pred -> pred pred pred")
            for index, case in enumerate(pairs(format, edges, 12)):
                c = index & 1
                a, b = (format.read(bits) for bits in case)
                first, other = int(holds("lt", a, b)), int(holds("geu", a, b))
                found = [act(first, c), act(1 - first, c), act(other, 1 - c)]
                out.append(f"  {shown(format, case)}" + f" {c} = " + " ".join(map(str, found)))
        results = {"u32": ("b32", 0xFFFFFFFF), "s32": ("b32", 0xFFFFFFFF), "f32": ("f32", 0x3F800000)}
        if format.bits == 16:
            results = {name: ("b16", 0x3C00 if format is F16 else 0x3F80), "u16": ("b16", 0xFFFF)}
        for result, (kind, yes) in results.items():
            out.append(f"set.gt.{result}.{name} %o0, %i0, %i1; set.leu.or.{result}.{name} %o1, %i0, %i1, %i2; "
                       f": {register(format)} {register(format)} pred -> {kind} {kind}")
            for index, case in enumerate(pairs(format, edges, 10)):
                a, b = (format.read(bits) for bits in case)
                found = [yes * holds("gt", a, b), yes * (holds("leu", a, b) or index & 1)]
                out.append(f"  {shown(format, case)}" + f" {index & 1} = " + hexadecimal(found))
        if format.bits == 16:
            yes = 0x3C00 if format is F16 else 0x3F80
            out.append(f"setp.lt.{name}x2 %o0|%o1, %i0, %i1; setp.neu.and.{name}x2 %o2|%o3, %i0, %i1, %i2; "
                       f"set.ge.{name}x2.{name}x2 %o4, %i0, %i1; set.eq.u32.{name}x2 %o5, %i0, %i1; "
                       ": b32 b32 pred -> pred pred pred pred b32 b32")
            cases = pairs(format, edges, 20)
            for index in range(0, len(cases) - 1):
                (a, b), (c, d) = cases[index], cases[index + 1]
                low, high = (format.read(a), format.read(b)), (format.read(c), format.read(d))
                p = index & 1
                found = [holds("lt", *low), holds("lt", *high), holds("neu", *low) and p, holds("neu", *high) and p,
                         yes * holds("ge", *low) | yes * holds("ge", *high) << 16,
                         0xFFFF * holds("eq", *low) | 0xFFFF * holds("eq", *high) << 16]
                out.append(f"  {c << 16 | a:#010x} {d << 16 | b:#010x} {p} = " + hexadecimal(map(int, found)))
        if format in (F32, F64):
            tests = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"]
            body = " ".join(f"testp.{test}.{name} %o{i}, %i0;" for i, test in enumerate(tests))
            out.append(f"{body} : {name} ->" + " pred" * 6)
            for bits in edges:
                value = format.read(bits)
                subnormal = format.subnormal(bits)
                found = [not is_special(value), value in (INF, NINF), value != NAN, value == NAN,
                         not is_special(value) and value[1] != 0 and not subnormal, subnormal]
                out.append(f"  {show(format, bits)} = " + " ".join(str(int(x)) for x in found))


def integral(value, mode):
    """A Fraction to an integer."""
    floor = value.numerator // value.denominator
    rest = value - floor
    if mode == "rmi" or rest == 0:
        return floor
    if mode == "rpi":
        return floor + 1
    if mode == "rzi":
        return floor if value > 0 else floor + 1
    if rest != Fraction(1, 2):
        return floor + (rest > Fraction(1, 2))
    return floor + (floor & 1)


INTEGERS = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"]


def limits(name):
    bits = int(name[1:])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if name[0] == "s" else (0, (1 << bits) - 1)


def conversion_tables(out):
    for format in (F16, F32, F64):
        name = format.name
        values = [Fraction(x) for x in ("1/2", "-1/2", "3/2", "5/2", "-5/2", "7/4", "127", "128", "255", "256", "-128", "-129",
                                        "32767", "32768", "65535", "-32769", "2147483647", "2147483648", "4294967295",
                                        "-2147483649", "9223372036854775807", "18446744073709551615", "1/1000000")]
        cases = sorted({format.round(value, "rn") for value in values} | set(EDGES[name]))
        for target in INTEGERS:
            bits = int(target[1:])
            low, high = limits(target)
            out_type = f"b{max(bits, 16)}"
            body = in_each_mode(f"cvt.MODE.{target}.{name}", INTEGRAL_MODES)
            out.append(f"{body} : {register(format)} ->" + f" {out_type}" * 4)
            for case in cases:
                value, found = format.read(case), []
                for mode in INTEGRAL_MODES:
                    if value == NAN:
                        result = 1 << bits - 1 if format is F64 or bits == 64 else 0
                    elif is_special(value):
                        result = high if value == INF else low
                    else:
                        result = min(max(integral(signed(value), mode), low), high)
                    width = max(bits, 16)
                    if value == NAN and bits == 8:
                        result = result if target[0] == "u" else result - 256 if result else 0
                    found.append(result & ((1 << width) - 1))
                out.append(f"  {show(format, case)} = " + hexadecimal(found))
        for source in INTEGERS:
            bits = int(source[1:])
            low, high = limits(source)
            numbers = sorted({low, high, 0, 1, high - 1, high // 3, high // 2 + 1} | {min(high, (1 << 24) + 1), min(high, 2049)})
            body = in_each_mode(f"cvt.MODE.{name}.{source}", MODES)
            out.append(f"{body} : b{max(bits, 16)} ->" + f" {register(format)}" * 4)
            for number in numbers:
                given = number & ((1 << max(bits, 16)) - 1)
                found = [show(format, format.round(Fraction(number), mode)) for mode in MODES]
                out.append(f"  {given:#x} = " + " ".join(found))
    for source in (F16, BF16, F32, F64):
        for target in (F16, BF16, F32, F64):
            if source is target or BF16 in (source, target) and F32 not in (source, target):
                continue
            registers = [register(source), register(target)]
            exact = target.bits > source.bits
            modes = [""] if exact else ["rn", "rz"] if target.bits == 16 else MODES
            suffixes = [""] + ([".ftz"] if F32 in (source, target) and BF16 not in (source, target) else [])
            if target.bits > 16:
                suffixes += [".sat"]
            for suffix in suffixes:
                body = in_each_mode(f"cvt{'' if exact else '.MODE'}{suffix}.{target.name}.{source.name}", modes)
                out.append(f"{body} : {registers[0]} ->" + f" {registers[1]}" * len(modes))
                cases = EDGES[source.name] + list(near(source, 10))
                if not exact:
                    # Ties and the ends of the smaller format.
                    for bits in list(near(target, 6)) + [1, target.inf - 1]:
                        middle = (signed(target.read(bits)) + signed(target.read(bits - 1 if bits & 1 else bits + 1))) / 2 if bits < target.inf - 1 else signed(target.read(bits))
                        cases.append(source.round(middle, "rn"))
                for case in cases:
                    given = source.flush(case) if suffix == ".ftz" and source is F32 else case
                    value, found = source.read(given), []
                    for mode in modes:
                        bits = target.special(value) if is_special(value) else pack(target, value, mode or "rn")
                        if suffix == ".ftz" and target is F32:
                            bits = target.flush(bits)
                        if suffix == ".sat":
                            bits = 0 if value == NAN or bits & target.sign else min(bits, target.round(Fraction(1), "rn"))
                        found.append(show(target, bits))
                    out.append(f"  {show(source, case)} = " + " ".join(found))
    for target in (F16, BF16):
        out.append(f"cvt.rn.{target.name}x2.f32 %o0, %i0, %i1; cvt.rz.{target.name}x2.f32 %o1, %i0, %i1; "
                   f"cvt.rn.relu.{target.name}x2.f32 %o2, %i0, %i1; cvt.rn.relu.{target.name}.f32 %o3, %i0; : f32 f32 -> b32 b32 b32 b16")
        for high, low in pairs(F32, EDGES["f32"], 40):
            def to(bits, mode, relu=False):
                value = F32.read(bits)
                result = target.special(value) if is_special(value) else pack(target, value, mode)
                return 0 if relu and value != NAN and result & target.sign else result
            found = [to(high, "rn") << 16 | to(low, "rn"), to(high, "rz") << 16 | to(low, "rz"),
                     to(high, "rn", True) << 16 | to(low, "rn", True), to(high, "rn", True)]
            out.append(f"  {high:#010x} {low:#010x} = " + hexadecimal(found))
    out.append("cvt.rna.tf32.f32 %o0, %i0; : f32 -> b32")
    for bits in [0, 0x80000000, 0x3F800000, 0x3F801000, 0x3F800FFF, 0xBF801000, 0x3F803000, 0x40490FDB, 0x3FFFF000]:
        # Nearest, halves away from zero: add half a unit to the magnitude and cut.
        out.append(f"  {bits:#010x} = {(bits + 0x1000) & 0xFFFFE000:#010x}")
    for format in (F16, F32, F64):
        name = format.name
        body = in_each_mode(f"cvt.MODE.{name}.{name}", INTEGRAL_MODES)
        out.append(f"{body} : {register(format)} ->" + f" {register(format)}" * 4)
        for bits in EDGES[name] + list(near(format, 16)) + [format.round(Fraction(x), "rn") for x in ("1/2", "-3/2", "5/2", "-1/4")]:
            value, found = format.read(bits), []
            for mode in INTEGRAL_MODES:
                if is_special(value):
                    found.append(None if value == NAN and format is F64 else format.special(value))
                else:
                    found.append(format.round(Fraction(integral(signed(value), mode)), "rn", negative_zero=value[0]))
            out.append(line(format, [bits], found))


def single(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


def approximate_tables(out):
    """Bounds from the maximum errors that the specification states."""
    def table(instruction, cases, function, relative=0.0, absolute=0.0, flags=""):
        out.append(f"{instruction} %o0, %i0; : f32 -> f32")
        for x in cases:
            given = struct.unpack("<f", struct.pack("<f", x))[0]
            exact = function(given)
            slack = abs(exact) * relative + absolute
            out.append(f"  {single(given):#010x} = {exact - slack!r}f..{exact + slack!r}f")

    plain = [0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 7.25, 100.0, 12345.0, 1e-6, 1e20]
    ulp = 2.0 ** -23
    table("rcp.approx.f32", plain, lambda x: 1 / x, relative=ulp)
    table("rcp.approx.ftz.f32", plain, lambda x: 1 / x, relative=ulp)
    table("sqrt.approx.f32", plain, sqrt, relative=2 ** -22.5)
    table("rsqrt.approx.f32", plain, lambda x: 1 / sqrt(x), relative=2 ** -22.4)
    table("ex2.approx.f32", [0.0, 1.0, -1.0, 0.5, 10.25, -20.5, 0.001], exp2, relative=2 ** -22)
    table("ex2.approx.ftz.f32", [0.0, 1.0, -1.0, 0.5, 10.25, -20.5], exp2, relative=2 ** -22)
    table("lg2.approx.f32", [1.0, 2.0, 1.001, 0.75, 1.75, 0.1, 100.0, 1e-30], log2, relative=2 ** -22, absolute=2 ** -22)
    table("sin.approx.f32", [0.0, 0.5, 1.0, -1.5, 3.0, -3.14], sin, absolute=2 ** -20.5)
    table("cos.approx.f32", [0.0, 0.5, 1.0, -1.5, 3.0, -3.14], cos, absolute=2 ** -20.5)
    table("tanh.approx.f32", [0.0, 0.5, 1.0, -1.5, 3.0, 20.0, -0.001], tanh, relative=2 ** -11)
    specials = {
        "rcp.approx.f32": ["7f800000=0", "ff800000=80000000", "0=7f800000", "80000000=ff800000", "7fc00000=nan"],
        "rcp.approx.ftz.f32": ["1=7f800000", "80000001=ff800000", "7f000000=0"],
        "sqrt.approx.f32": ["7f800000=7f800000", "ff800000=nan", "bf800000=nan", "80000000=80000000", "0=0"],
        "rsqrt.approx.f32": ["7f800000=0", "ff800000=nan", "bf800000=nan", "80000000=ff800000", "0=7f800000"],
        "rsqrt.approx.ftz.f32": ["1=7f800000", "80000001=ff800000"],
        "ex2.approx.f32": ["7f800000=7f800000", "ff800000=0", "7fc00000=nan", "0=3f800000", "80000000=3f800000"],
        "ex2.approx.ftz.f32": ["1=3f800000", "c3020000=0", "43000000=7f800000"],
        "lg2.approx.f32": ["7f800000=7f800000", "ff800000=nan", "bf800000=nan", "0=ff800000", "80000000=ff800000"],
        "lg2.approx.ftz.f32": ["1=ff800000", "80000001=ff800000"],
        "sin.approx.f32": ["7f800000=nan", "ff800000=nan", "0=0", "80000000=80000000"],
        "sin.approx.ftz.f32": ["1=0", "80000001=80000000"],
        "cos.approx.f32": ["7f800000=nan", "0=3f800000", "80000000=3f800000"],
        "tanh.approx.f32": ["7f800000=3f800000", "ff800000=bf800000", "0=0", "80000000=80000000", "7fc00000=nan"],
    }
    for instruction, cases in specials.items():
        out.append(f"{instruction} %o0, %i0; : f32 -> f32")
        for case in cases:
            given, found = case.split("=")
            out.append(f"  0x{given} = " + ("nan" if found == "nan" else f"0x{found}"))
    for instruction in ("div.approx.f32", "div.full.f32", "div.approx.ftz.f32", "div.full.ftz.f32"):
        out.append(f"{instruction} %o0, %i0, %i1; : f32 f32 -> f32")
        for a, b in ((1.0, 3.0), (-7.5, 2.5), (1e30, 1e10), (5.0, 1e-20)):
            a, b = (struct.unpack("<f", struct.pack("<f", x))[0] for x in (a, b))
            slack = abs(a / b) * 2 * ulp
            out.append(f"  {single(a):#010x} {single(b):#010x} = {a / b - slack!r}f..{a / b + slack!r}f")
    for instruction, function, error in (("rsqrt.approx.f64", lambda x: 1 / sqrt(x), 2 ** -20), ("rsqrt.approx.ftz.f64", lambda x: 1 / sqrt(x), 2 ** -19),
                                         ("rcp.approx.ftz.f64", lambda x: 1 / x, 2 ** -19)):
        out.append(f"{instruction} %o0, %i0; : f64 -> f64")
        for x in (0.1, 1.0, 3.0, 1e100, 1e-100):
            out.append(f"  {x!r}d = {function(x) * (1 - error)!r}d..{function(x) * (1 + error)!r}d")
        out.append("  infd = 0")
        out.append("  0.0d = infd")
        out.append("  -0.0d = -infd")
        out.append("  nand = nan")
    for format in (F16, BF16):
        name = format.name
        flush = "" if format is F16 else ".ftz"
        # The packed forms do to each half what the others do.
        out.append(f"ex2.approx{flush}.{name}x2 %r0, %i0; mov.b32 {{%h0, %h1}}, %r0; mov.b32 {{%h2, %h3}}, %i0; ex2.approx{flush}.{name} %h4, %h2; ex2.approx{flush}.{name} %h5, %h3; "
                   f"xor.b16 %o0, %h0, %h4; xor.b16 %o1, %h1, %h5; tanh.approx.{name}x2 %r0, %i0; mov.b32 {{%h0, %h1}}, %r0; tanh.approx.{name} %h4, %h2; tanh.approx.{name} %h5, %h3; "
                   "xor.b16 %o2, %h0, %h4; xor.b16 %o3, %h1, %h5; : b32 -> b16 b16 b16 b16")
        out += [f"  {word:#010x} = 0 0 0 0" for word in (0x3C003800, 0xBC01C200, 0x00007C00, 0x4000FC00)]
    # Divisors above 2^126: zero, or NaN for an infinite dividend.
    out.append("div.approx.f32 %o0, %i0, %i1; : f32 f32 -> f32")
    out.append("  0x3f800000 0x7f000000 = 0x00000000..0x00400000")
    out.append("  0x7f000000 0x7f400000 = 0")
    out.append("  0xff000000 0x7f400000 = 0x80000000")
    out.append("  0x7f800000 0x7f400000 = nan")
    for format in (F16, BF16):
        name = format.name
        for instruction, function, relative, absolute in (
            (f"ex2.approx{'' if format is F16 else '.ftz'}.{name}", exp2, 2 ** -9.9 if format is F16 else 2 ** -7, 0),
            (f"tanh.approx.{name}", tanh, 0, 2 ** -10.987 if format is F16 else 2 ** -8),
        ):
            out.append(f"{instruction} %h0, %i0; cvt.f32.{name} %o0, %h0; : b16 -> f32")
            for x in (0.0, 0.5, 1.0, -1.5, 2.25, -3.0):
                exact = function(x)
                slack = abs(exact) * relative + absolute + abs(exact) * 2.0 ** -(format.f + 1)
                out.append(f"  {format.round(Fraction(x), 'rn'):#06x} = {exact - slack!r}f..{exact + slack!r}f")


write_tables(sys.argv[1], "floats.py with exact fractions", (
    ("float-exact", wide_tables, "f32 and f64 arithmetic in every rounding mode"),
    ("half", half_tables, "f16, bf16 and their pairs"),
    ("float-compare", comparison_tables, "Comparisons and classes of floating-point numbers"),
    ("float-convert", conversion_tables, "Conversions from and to floating point"),
    ("float-approximate", approximate_tables, "Approximate functions, within the errors that the specification allows"),
))
