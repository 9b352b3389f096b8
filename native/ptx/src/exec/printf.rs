//! C's `printf` on a buffer of arguments as CUDA packs them: in order, each naturally aligned, floats as
//! doubles, integers as 4 or 8 bytes.

use crate::memory::{GENERIC, Memory, Trouble};

#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// The formatted text, and the number of arguments consumed (what device `printf` returns).
pub(super) fn format(
    format: &[u8],
    mut at: u64,
    memory: &mut Memory<'_, '_>,
) -> Result<(Vec<u8>, u64), Trouble> {
    let mut text = Vec::new();
    let mut count = 0;
    let mut next = |memory: &mut Memory<'_, '_>, size: u64| -> Result<u64, Trouble> {
        at = at.wrapping_add(size - 1) & !(size - 1);
        let value = if size == 4 {
            memory.read::<GENERIC, u32, 1>(at).map(|[word]| u64::from(word))
        } else {
            memory.read::<GENERIC, u64, 1>(at).map(|[word]| word)
        };
        at = at.wrapping_add(size);
        count += 1;
        value
    };
    let mut bytes = format.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            text.push(byte);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = bytes.next_if(|flag| b"-+ #0".contains(flag)) {
            match flag {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                _ => spec.zero = true,
            }
        }
        let width = if bytes.next_if_eq(&b'*').is_some() {
            i64::from(next(memory, 4)? as i32)
        } else {
            decimal(&mut bytes)
        };
        spec.left |= width < 0;
        spec.width = width.unsigned_abs().min(4096) as usize;
        if bytes.next_if_eq(&b'.').is_some() {
            let star = bytes.next_if_eq(&b'*').is_some();
            let precision = if star { i64::from(next(memory, 4)? as i32) } else { decimal(&mut bytes) };
            spec.precision = usize::try_from(precision).ok().map(|precision| precision.min(1024));
        }
        let (mut long, mut short) = (0, 0);
        while let Some(length) = bytes.next_if(|length| b"hlLqjzt".contains(length)) {
            match length {
                b'h' => short += 1,
                _ => long += 1,
            }
        }
        let size = if long > 0 { 8 } else { 4 };
        let Some(conversion) = bytes.next() else { break };
        match conversion {
            b'%' => text.push(b'%'),
            b'd' | b'i' => {
                let value = next(memory, size)?;
                let value = match (size, short) {
                    (8, _) => value as i64,
                    (_, 0) => i64::from(value as i32),
                    (_, 1) => i64::from(value as i16),
                    _ => i64::from(value as i8),
                };
                let sign = if value < 0 { "-" } else { spec.positive() };
                integer(&mut text, &spec, sign, &value.unsigned_abs().to_string());
            }
            b'u' | b'o' | b'x' | b'X' => {
                let value = next(memory, size)?;
                let value = match (size, short) {
                    (8, _) | (_, 0) => value,
                    (_, 1) => u64::from(value as u16),
                    _ => u64::from(value as u8),
                };
                let (prefix, digits) = match conversion {
                    b'u' => ("", value.to_string()),
                    b'o' => (if spec.alternate { "0" } else { "" }, format!("{value:o}")),
                    b'x' => (if spec.alternate && value != 0 { "0x" } else { "" }, format!("{value:x}")),
                    _ => (if spec.alternate && value != 0 { "0X" } else { "" }, format!("{value:X}")),
                };
                integer(&mut text, &spec, prefix, &digits);
            }
            b'p' => {
                let value = next(memory, 8)?;
                spec.zero = false;
                let shown = if value == 0 { "(nil)".to_owned() } else { format!("{value:#x}") };
                pad(&mut text, &spec, "", shown.as_bytes());
            }
            b'c' => {
                let value = next(memory, 4)? as u8;
                spec.zero = false;
                pad(&mut text, &spec, "", &[value]);
            }
            b's' => {
                let address = next(memory, 8)?;
                let mut shown = if address == 0 { b"(null)".to_vec() } else { memory.text(address)? };
                shown.truncate(spec.precision.unwrap_or(usize::MAX));
                spec.zero = false;
                pad(&mut text, &spec, "", &shown);
            }
            b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
                let value = f64::from_bits(next(memory, 8)?);
                let sign = if value.is_sign_negative() { "-" } else { spec.positive() };
                let mut shown = float(value.abs(), conversion, &spec);
                if conversion.is_ascii_uppercase() {
                    shown.make_ascii_uppercase();
                }
                if !value.is_finite() {
                    spec.zero = false;
                }
                pad(&mut text, &spec, sign, shown.as_bytes());
            }
            other => text.extend([b'%', other]),
        }
    }
    Ok((text, count))
}

fn decimal(bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>) -> i64 {
    let mut number = 0;
    while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
        number = (number * 10 + i64::from(digit - b'0')).min(100_000);
    }
    number
}

impl Spec {
    fn positive(&self) -> &'static str {
        match (self.plus, self.space) {
            (true, _) => "+",
            (_, true) => " ",
            _ => "",
        }
    }
}

fn integer(text: &mut Vec<u8>, spec: &Spec, prefix: &str, digits: &str) {
    let Some(precision) = spec.precision else { return pad(text, spec, prefix, digits.as_bytes()) };
    let digits =
        if precision == 0 && digits == "0" { String::new() } else { format!("{digits:0>precision$}") };
    pad(
        text,
        &Spec { zero: false, left: spec.left, width: spec.width, ..Spec::default() },
        prefix,
        digits.as_bytes(),
    );
}

fn pad(text: &mut Vec<u8>, spec: &Spec, prefix: &str, body: &[u8]) {
    let missing = spec.width.saturating_sub(prefix.len() + body.len());
    let fill = |text: &mut Vec<u8>, byte| text.extend(std::iter::repeat_n(byte, missing));
    if !spec.left && !spec.zero {
        fill(text, b' ');
    }
    text.extend(prefix.bytes());
    if !spec.left && spec.zero {
        fill(text, b'0');
    }
    text.extend(body);
    if spec.left {
        fill(text, b' ');
    }
}

fn float(value: f64, conversion: u8, spec: &Spec) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return "inf".to_owned();
    }
    let precision = spec.precision.unwrap_or(6);
    let point = |text: String| if spec.alternate && precision == 0 { text + "." } else { text };
    match conversion {
        b'f' | b'F' => point(format!("{value:.precision$}")),
        b'e' | b'E' => exponential(value, precision),
        b'a' | b'A' => hexadecimal(value, spec.precision),
        _ => {
            let precision = precision.max(1);
            let exponent = decimal_exponent(value, precision - 1);
            let fixed = exponent >= -4 && exponent < precision as i32;
            let shown = if fixed {
                let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
                format!("{value:.decimals$}")
            } else {
                exponential(value, precision - 1)
            };
            if spec.alternate { shown } else { trim_zeros(&shown) }
        }
    }
}

fn decimal_exponent(value: f64, precision: usize) -> i32 {
    let text = format!("{value:.precision$e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn trim_zeros(text: &str) -> String {
    let (mantissa, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    format!("{mantissa}{exponent}")
}

fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    if value == 0.0 {
        return "0x0p+0".to_owned();
    }
    let bits = value.to_bits();
    let (mut fraction, biased) = (bits & ((1 << 52) - 1), (bits >> 52) as i32);
    let (mut lead, exponent) = if biased == 0 { (0, -1022) } else { (1, biased - 1023) };
    if let Some(precision) = precision.filter(|&precision| precision < 13) {
        let cut = 4 * (13 - precision);
        let whole = lead << 52 | fraction;
        let (kept, rest, half) = (whole >> cut, whole & ((1 << cut) - 1), 1u64 << (cut - 1));
        let kept = kept + u64::from(rest > half || (rest == half && kept & 1 == 1));
        (lead, fraction) = ((kept << cut) >> 52, (kept << cut) & ((1 << 52) - 1));
    }
    let digits = format!("{fraction:013x}");
    let digits = match precision {
        Some(precision) => format!("{digits:0<precision$}")[..precision].to_owned(),
        None => digits.trim_end_matches('0').to_owned(),
    };
    let dot = if digits.is_empty() { "" } else { "." };
    format!("0x{lead}{dot}{digits}p{exponent:+}")
}
