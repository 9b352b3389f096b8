//! Operands and constant expressions.

use super::scope::{Named, special, special_vector};
use super::{Parse, Parser};
use crate::ast::{Operand, Place};
use crate::lexer::Kind;

impl<'a> Parser<'a> {
    pub(super) fn operand(&mut self, depth: u32) -> Parse<Operand<'a>> {
        let first = self.single_operand(depth)?;
        if self.accept(b'|') {
            let second = self.single_operand(depth)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn list(&mut self, close: u8, depth: u32) -> Parse<Vec<Operand<'a>>> {
        let mut items = Vec::new();
        while !self.is_mark(close) {
            items.push(self.operand(depth + 1)?);
            if !self.accept(b',') {
                break;
            }
        }
        self.expect(close)?;
        Ok(items)
    }

    fn single_operand(&mut self, depth: u32) -> Parse<Operand<'a>> {
        let token = self.peek();
        if depth > 8 {
            return Err(token.error("operand nested too deeply"));
        }
        match token.kind {
            Kind::Mark(b'[') => {
                self.next();
                let base = self.single_operand(depth + 1)?;
                let offset = self.offset()?;
                let address = base;
                if self.accept(b',') {
                    let mut items = vec![address];
                    items.extend(self.list(b']', depth)?);
                    return Ok(Operand::Tuple(items));
                }
                self.expect(b']')?;
                Ok(Operand::Address(Box::new(address), offset))
            }
            Kind::Mark(b'{') => {
                self.next();
                Ok(Operand::Vector(self.list(b'}', depth)?))
            }
            Kind::Mark(b'(') => {
                self.next();
                Ok(Operand::Tuple(self.list(b')', depth)?))
            }
            Kind::Mark(b'!') => {
                self.next();
                Ok(Operand::Not(Box::new(self.single_operand(depth + 1)?)))
            }
            Kind::Float32(bits) => {
                self.next();
                Ok(Operand::Float32(bits))
            }
            Kind::Float64(bits) => {
                self.next();
                Ok(Operand::Float64(bits))
            }
            Kind::Mark(b'-') if matches!(self.peek_second().kind, Kind::Float32(_) | Kind::Float64(_)) => {
                self.next();
                Ok(match self.next().kind {
                    Kind::Float32(bits) => Operand::Float32(bits ^ 1 << 31),
                    Kind::Float64(bits) => Operand::Float64(bits ^ 1 << 63),
                    _ => Operand::Sink,
                })
            }
            Kind::Name => self.named_operand(),
            _ => Ok(Operand::Integer(self.constant()? as u64)),
        }
    }

    fn named_operand(&mut self) -> Parse<Operand<'a>> {
        let token = self.next();
        if token.text == "_" {
            return Ok(Operand::Sink);
        }
        match self.lookup(token.text) {
            Some(Named::Register { slot, bits }) => {
                let register = Operand::Register { slot, bits };
                if self.peek().kind == Kind::Dot {
                    return Ok(Operand::Part(Box::new(register), self.next().text));
                }
                return Ok(register);
            }
            Some(Named::Place(place)) => {
                let offset = self.offset()?;
                return Ok(Operand::Symbol(place, offset));
            }
            None => {}
        }
        let Some(name) = token.text.strip_prefix('%') else {
            if token.text == "WARP_SZ" {
                return Ok(Operand::Integer(32));
            }
            return Ok(Operand::Name(token.text));
        };
        if let Some(special) = special(name) {
            return Ok(Operand::Special(special));
        }
        let component = self.peek();
        if component.kind == Kind::Dot
            && let Some(special) = special_vector(name, component.text)
        {
            self.next();
            return Ok(Operand::Special(special));
        }
        if matches!(
            name,
            "clusterid"
                | "nclusterid"
                | "cluster_ctaid"
                | "cluster_nctaid"
                | "tid"
                | "ntid"
                | "ctaid"
                | "nctaid"
        ) || name.starts_with("cluster_")
            || name.starts_with("pm")
        {
            if component.kind == Kind::Dot {
                self.next();
            }
            return Ok(Operand::Name(token.text));
        }
        Err(token.error("undeclared register"))
    }

    /// `+4`, `-8`, `+-8` after an address or symbol.
    fn offset(&mut self) -> Parse<i64> {
        let mut offset = 0i64;
        while self.is_mark(b'+') || self.is_mark(b'-') {
            let minus = self.next().kind == Kind::Mark(b'-');
            let value = self.factor(0)?;
            offset = if minus { offset.wrapping_sub(value) } else { offset.wrapping_add(value) };
        }
        Ok(offset)
    }

    /// An integer constant expression.
    pub(super) fn constant(&mut self) -> Parse<i64> {
        self.expression(0, 0)
    }

    fn expression(&mut self, level: u8, depth: u32) -> Parse<i64> {
        let mut left = self.factor(depth)?;
        loop {
            let token = self.peek();
            let Kind::Mark(operator) = token.kind else { return Ok(left) };
            let precedence = match operator {
                b'|' => 1,
                b'^' => 2,
                b'&' => 3,
                b'<' | b'>' if self.peek_second().kind == token.kind => 4,
                b'+' | b'-' => 5,
                b'*' | b'/' | b'%' => 6,
                _ => return Ok(left),
            };
            if precedence <= level {
                return Ok(left);
            }
            self.next();
            if precedence == 4 {
                self.next();
            }
            let right = self.expression(precedence, depth + 1)?;
            left = match operator {
                b'|' => left | right,
                b'^' => left ^ right,
                b'&' => left & right,
                b'<' => left.wrapping_shl(right as u32),
                b'>' => left.wrapping_shr(right as u32),
                b'+' => left.wrapping_add(right),
                b'-' => left.wrapping_sub(right),
                b'*' => left.wrapping_mul(right),
                _ if right == 0 => return Err(token.error("division by zero")),
                b'/' => left.wrapping_div(right),
                _ => left.wrapping_rem(right),
            };
        }
    }

    pub(super) fn factor(&mut self, depth: u32) -> Parse<i64> {
        let token = self.next();
        if depth > 32 {
            return Err(token.error("expression nested too deeply"));
        }
        match token.kind {
            Kind::Integer(value) => Ok(value as i64),
            Kind::Mark(b'-') => Ok(self.factor(depth + 1)?.wrapping_neg()),
            Kind::Mark(b'+') => self.factor(depth + 1),
            Kind::Mark(b'~') => Ok(!self.factor(depth + 1)?),
            Kind::Mark(b'!') => Ok(i64::from(self.factor(depth + 1)? == 0)),
            Kind::Mark(b'(') => {
                // A cast such as (.s64) is accepted and has no effect on 64-bit arithmetic.
                if self.peek().kind == Kind::Dot {
                    self.next();
                    self.expect(b')')?;
                    return self.factor(depth + 1);
                }
                let value = self.expression(0, depth + 1)?;
                self.expect(b')')?;
                Ok(value)
            }
            _ => Err(token.error("expected an operand")),
        }
    }

    /// The piece of local memory that a call argument names.
    pub(super) fn local_place(operand: &Operand<'_>) -> Option<u32> {
        match operand {
            Operand::Symbol(Place::Local(offset), 0) => Some(*offset),
            _ => None,
        }
    }
}
