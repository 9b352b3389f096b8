"""Binary floating point with fractions: every result is exact and then rounded once."""

from fractions import Fraction
from math import isqrt

NAN, INF, NINF = "nan", "inf", "-inf"


class Format:
    def __init__(self, name, exponent, fraction, nan):
        self.name, self.e, self.f, self.nan = name, exponent, fraction, nan
        self.bits = 1 + exponent + fraction
        self.bias = (1 << exponent - 1) - 1
        self.lowest = 1 - self.bias - fraction
        self.inf = ((1 << exponent) - 1) << fraction
        self.sign = 1 << exponent + fraction

    def read(self, bits):
        """(negative, Fraction) or a special value."""
        negative = bool(bits & self.sign)
        exponent, fraction = (bits & self.inf) >> self.f, bits & ((1 << self.f) - 1)
        if bits & self.inf == self.inf:
            return NAN if fraction else (NINF if negative else INF)
        if exponent == 0:
            value = Fraction(fraction) * Fraction(2) ** self.lowest
        else:
            value = Fraction(fraction | 1 << self.f) * Fraction(2) ** (self.lowest + exponent - 1)
        return (negative, value)

    def subnormal(self, bits):
        return bits & self.inf == 0 and bits & (self.sign - 1) != 0

    def flush(self, bits):
        return bits & self.sign if self.subnormal(bits) else bits

    def round(self, value, mode, negative_zero=False, root=False):
        """`value` is a signed Fraction. With `root`, its square root is rounded."""
        if value == 0:
            return self.sign if negative_zero else 0
        negative, size = value < 0, abs(value)
        sign = self.sign if negative else 0
        # The exponent of the leading bit.
        top = size.numerator.bit_length() - size.denominator.bit_length()
        if root:
            top = (top - 1) // 2 - 1
            while Fraction(4) ** (top + 1) <= size:
                top += 1
        else:
            top -= 1
            while Fraction(2) ** (top + 1) <= size:
                top += 1
        unit = max(top - self.f, self.lowest)
        if root:
            scaled = size / Fraction(4) ** unit
            kept = isqrt(scaled.numerator // scaled.denominator)
            exact = kept * kept == scaled
            half = (2 * kept + 1) ** 2
            compare = (4 * scaled > half) - (4 * scaled < half)
        else:
            scaled = size / Fraction(2) ** unit
            kept = scaled.numerator // scaled.denominator
            rest = scaled - kept
            exact = rest == 0
            compare = (rest > Fraction(1, 2)) - (rest < Fraction(1, 2))
        up = {
            "rn": compare > 0 or compare == 0 and kept & 1,
            "rna": compare >= 0,
            "rz": False,
            "rm": negative and not exact,
            "rp": not negative and not exact,
        }[mode]
        kept += 1 if up else 0
        bits = kept if kept < 1 << self.f else kept + (unit - self.lowest) * (1 << self.f)
        if bits >= self.inf:
            away = mode in ("rn", "rna") or mode == ("rm" if negative else "rp")
            return sign | (self.inf if away else self.inf - 1)
        return sign | bits

    def special(self, value):
        return {NAN: self.nan, INF: self.inf, NINF: self.inf | self.sign}[value]


F16 = Format("f16", 5, 10, 0x7FFF)
BF16 = Format("bf16", 8, 7, 0x7FFF)
F32 = Format("f32", 8, 23, 0x7FFFFFFF)
F64 = Format("f64", 11, 52, None)


def is_special(value):
    return isinstance(value, str)


def signed(value):
    return -value[1] if value[0] else value[1]


def negated(value):
    if is_special(value):
        return {NAN: NAN, INF: NINF, NINF: INF}[value]
    return (not value[0], value[1])


def is_negative(value):
    return value == NINF or not is_special(value) and value[0]


def add(a, b, mode):
    """The exact sum: a special value, or (Fraction, whether a zero is negative)."""
    if NAN in (a, b) or {a, b} == {INF, NINF}:
        return NAN
    if is_special(a):
        return a
    if is_special(b):
        return b
    total = signed(a) + signed(b)
    negative_zero = a[0] and b[0] if a[1] == b[1] == 0 else mode == "rm"
    if a[1] == b[1] == 0 and a[0] != b[0]:
        negative_zero = mode == "rm"
    return (total, negative_zero)


def multiply(a, b):
    """A special value, or (negative, Fraction)."""
    if NAN in (a, b):
        return NAN
    negative = is_negative(a) != is_negative(b)
    if is_special(a) or is_special(b):
        if not is_special(a) and a[1] == 0 or not is_special(b) and b[1] == 0:
            return NAN
        return NINF if negative else INF
    return (negative, a[1] * b[1])


def divide(a, b):
    if NAN in (a, b) or is_special(a) and is_special(b):
        return NAN
    negative = is_negative(a) != is_negative(b)
    if is_special(a):
        return NINF if negative else INF
    if is_special(b):
        return (negative, Fraction(0))
    if b[1] == 0:
        return NAN if a[1] == 0 else (NINF if negative else INF)
    return (negative, a[1] / b[1])


def pack(format, value, mode):
    """Rounds what the functions above return; a NaN without a fixed pattern is None."""
    if is_special(value):
        return format.special(value)
    first, second = value
    if isinstance(first, bool):
        return format.round(-second if first else second, mode, negative_zero=first)
    return format.round(first, mode, negative_zero=second)


def arithmetic(format, operation, operands, mode="rn", ftz=False, sat=False, relu=False):
    """The bits of an operation's result, None for any NaN."""
    if ftz:
        operands = [format.flush(bits) for bits in operands]
    values = [format.read(bits) for bits in operands]
    if operation == "add":
        result = add(values[0], values[1], mode)
    elif operation == "sub":
        result = add(values[0], negated(values[1]), mode)
    elif operation == "mul":
        result = multiply(values[0], values[1])
    elif operation == "fma":
        product = multiply(values[0], values[1])
        result = add(product, values[2], mode)
    elif operation == "div":
        result = divide(values[0], values[1])
    elif operation == "rcp":
        result = divide((False, Fraction(1)), values[0])
    elif operation == "sqrt":
        value = values[0]
        if value == NAN or value == NINF or not is_special(value) and value[0] and value[1]:
            result = NAN
        elif value == INF:
            result = INF
        elif value[1] == 0:
            result = value
        else:
            bits = format.round(value[1], mode, root=True)
            bits = format.flush(bits) if ftz else bits
            one = format.round(Fraction(1), "rn")
            return min(bits, one) if sat else bits
    elif operation in ("min", "max"):
        return extreme(format, operation, operands)
    bits = pack(format, result, mode)
    if ftz and bits is not None:
        bits = format.flush(bits)
    if sat:
        bits = saturated(format, result, bits)
    if relu and result != NAN and bits & format.sign:
        bits = 0
    return bits


def saturated(format, result, bits):
    if result == NAN or bits & format.sign:
        return 0
    return min(bits, format.round(Fraction(1), "rn"))


def extreme(format, operation, operands, propagate=False):
    values = [format.read(bits) for bits in operands]
    if values[0] == NAN or values[1] == NAN:
        if propagate or values[0] == values[1]:
            return format.nan
        return operands[1] if values[0] == NAN else operands[0]

    def key(index):
        bits = operands[index]
        return -(bits & (format.sign - 1)) - 1 if bits & format.sign else bits

    pick = min if operation == "min" else max
    return operands[pick((0, 1), key=key)]
