//! PTX text to tokens.

use crate::error::ParseError;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// A name: register, symbol, label or opcode (without its modifiers).
    Name,
    /// `.word`, with `::` parts: a directive, type or modifier. The text has no leading dot.
    Dot,
    /// An integer; negative numbers are an operator and this.
    Integer(u64),
    /// `0f…`
    Float32(u32),
    /// `0d…` or a decimal floating-point number.
    Float64(u64),
    /// A string without its quotes.
    Text,
    /// One character of punctuation.
    Mark(u8),
    /// End of the text.
    End,
}

/// A token and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: u32,
    pub column: u32,
}

impl Token<'_> {
    pub fn error(&self, message: impl Into<String>) -> ParseError {
        let mut token: String = self.text.chars().take(60).collect();
        if matches!(self.kind, Kind::Dot) {
            token.insert(0, '.');
        }
        ParseError { line: self.line, column: self.column, message: message.into(), token }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

/// Splits the whole text. The last token is always [`Kind::End`].
pub(crate) fn lex(source: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let source = source.trim_end_matches('\0');
    let bytes = source.as_bytes();
    let mut tokens = Vec::with_capacity(bytes.len() / 4);
    let (mut at, mut line, mut line_start) = (0, 1u32, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        let column = (at - line_start + 1) as u32;
        let start = at;
        let bad = |end: usize, message: &str| {
            let end = (end..=source.len()).find(|&end| source.is_char_boundary(end)).unwrap_or(source.len());
            let text = source.get(start..end).unwrap_or_default();
            Token { kind: Kind::Text, text, line, column }.error(message)
        };
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
                line_start = at;
                continue;
            }
            b' ' | b'\t' | b'\r' | 0x0b | 0x0c => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let Some(length) = source[at + 2..].find("*/") else {
                    return Err(bad(at + 2, "comment without an end"));
                };
                let end = at + 2 + length + 2;
                for (index, &byte) in bytes.iter().enumerate().take(end).skip(at) {
                    if byte == b'\n' {
                        line += 1;
                        line_start = index + 1;
                    }
                }
                at = end;
                continue;
            }
            _ => {}
        }
        let (kind, text) = if byte == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
                at += 1;
            }
            if bytes.get(at) != Some(&b'"') {
                return Err(bad(at, "string without an end"));
            }
            at += 1;
            (Kind::Text, &source[start + 1..at - 1])
        } else if byte == b'.' && bytes.get(at + 1).is_some_and(|&next| is_word(next)) {
            at += 1;
            loop {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                let part = bytes.get(at) == Some(&b':') && bytes.get(at + 1) == Some(&b':');
                if part && bytes.get(at + 2).is_some_and(|&next| is_word(next)) {
                    at += 2;
                } else {
                    break;
                }
            }
            (Kind::Dot, &source[start + 1..at])
        } else if byte.is_ascii_digit() {
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            if is_decimal_float(bytes, start, at) {
                at = decimal_float_end(bytes, start);
                let text = &source[start..at];
                let value: f64 = text.parse().map_err(|_| bad(at, "malformed number"))?;
                (Kind::Float64(value.to_bits()), text)
            } else {
                let text = &source[start..at];
                (number(text).ok_or_else(|| bad(at, "malformed number"))?, text)
            }
        } else if is_word(byte) || (byte == b'%' && bytes.get(at + 1).is_some_and(|&next| is_word(next))) {
            at += 1;
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            (Kind::Name, &source[start..at])
        } else if b"{}()[]<>,;:@!|+-*/%&^~=?".contains(&byte) {
            at += 1;
            (Kind::Mark(byte), &source[start..at])
        } else {
            return Err(bad(at + 1, "unexpected character"));
        };
        tokens.push(Token { kind, text, line, column });
    }
    let column = (at - line_start + 1) as u32;
    tokens.push(Token { kind: Kind::End, text: "", line, column });
    Ok(tokens)
}

fn is_decimal_float(bytes: &[u8], start: usize, end: usize) -> bool {
    let digits = bytes[start..end].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if start + digits == end {
        bytes.get(end) == Some(&b'.')
    } else {
        matches!(bytes[start + digits], b'e' | b'E') && digits > 0 && bytes[start] != b'0'
    }
}

fn decimal_float_end(bytes: &[u8], start: usize) -> usize {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(start);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

fn number(text: &str) -> Option<Kind> {
    let radix = |digits: &str, radix| {
        let digits = digits.strip_suffix(['U', 'u']).unwrap_or(digits);
        u64::from_str_radix(digits, radix).ok().map(Kind::Integer)
    };
    match text.as_bytes() {
        [b'0', b'f' | b'F', ..] if text.len() == 10 => {
            u32::from_str_radix(&text[2..], 16).ok().map(Kind::Float32)
        }
        [b'0', b'd' | b'D', ..] if text.len() == 18 => {
            u64::from_str_radix(&text[2..], 16).ok().map(Kind::Float64)
        }
        [b'0', b'x' | b'X', ..] => radix(&text[2..], 16),
        [b'0', b'b' | b'B', ..] => radix(&text[2..], 2),
        [b'0', b'0'..=b'7', ..] => radix(&text[1..], 8),
        _ => radix(text, 10),
    }
}
