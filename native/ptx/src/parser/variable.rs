//! Declarations of variables and parameters, and initialisers.

use super::scope::Named;
use super::{Parse, Parser, SharedVariable};
use crate::ast::Place;
use crate::lexer::{Kind, Token};
use crate::module::{Relocation, Symbol, Variable, VariableSpace};

/// A type's size in bytes; `.pred` has none.
pub(super) fn type_bytes(name: &str) -> Option<u32> {
    Some(match name {
        "b8" | "u8" | "s8" | "e4m3" | "e5m2" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" | "tf32" | "u16x2" | "s16x2" => 4,
        "b64" | "u64" | "s64" | "f64" | "f32x2" | "texref" | "samplerref" | "surfref" => 8,
        "b128" | "u128" | "s128" => 16,
        _ => return None,
    })
}

pub(super) struct Declaration<'a> {
    pub space: &'a str,
    pub name: Token<'a>,
    pub align: u32,
    /// Bytes of one element (vectors count as one).
    pub element: u32,
    /// Bytes in all; none for `name[]`.
    pub size: Option<u32>,
    pub managed: bool,
    pub is_float: bool,
}

impl<'a> Parser<'a> {
    /// `.space .align N .v2 .type name[dimensions]`, in any order of the directives.
    pub(super) fn declaration(&mut self) -> Parse<Declaration<'a>> {
        let first = self.peek();
        let mut space = "";
        self.declared_predicate = false;
        let (mut align, mut vector, mut element, mut managed, mut is_float) = (None, 1, None, false, false);
        while self.peek().kind == Kind::Dot {
            let token = self.next();
            match token.text {
                "param" | "reg" | "local" | "shared" | "global" | "const" if space.is_empty() => {
                    space = token.text
                }
                "align" => {
                    let value = self.small()?;
                    if !value.is_power_of_two() || value > 1 << 16 {
                        return Err(token.error("alignment is not a power of two"));
                    }
                    align = Some(value);
                }
                "v2" => vector = 2,
                "v4" => vector = 4,
                "v8" => vector = 8,
                "attribute" => {
                    self.expect(b'(')?;
                    while !self.accept(b')') {
                        let token = self.next();
                        managed |= token.text == "managed";
                        if token.kind == Kind::End {
                            return Err(token.error("expected ')'"));
                        }
                    }
                }
                // What a pointer parameter points to: `.ptr .global .align 4`.
                "ptr" => {
                    let _ = ["global", "const", "shared", "local"].iter().any(|space| self.accept_dot(space));
                    if self.accept_dot("align") {
                        self.small()?;
                    }
                }
                "pred" => {
                    self.declared_predicate = true;
                    element = Some(1);
                }
                _ => {
                    let bytes =
                        type_bytes(token.text).ok_or_else(|| token.error("unknown type or directive"))?;
                    is_float = matches!(token.text, "f32" | "f64");
                    element = Some(bytes);
                }
            }
        }
        let element = element.ok_or_else(|| first.error("declaration without a type"))? * vector;
        let name = self.name()?;
        let mut size = Some(element);
        while self.accept(b'[') {
            let place = self.peek();
            let too_large = || place.error("variable too large");
            if self.accept(b']') {
                size = None;
                continue;
            }
            let count = u32::try_from(self.constant()?).map_err(|_| too_large())?;
            self.expect(b']')?;
            size = match size {
                Some(size) => Some(size.checked_mul(count).ok_or_else(too_large)?),
                None => Some(count.checked_mul(element).ok_or_else(too_large)?),
            };
        }
        let align = align.unwrap_or(element);
        Ok(Declaration { space, name, align, element, size, managed, is_float })
    }

    /// A `.global`, `.const` or `.shared` variable, at module or function scope.
    pub(super) fn variable(&mut self, linkage: &str) -> Parse<()> {
        let declaration = self.declaration()?;
        let name = declaration.name;
        if declaration.space == "shared" {
            let place = match declaration.size {
                Some(size) if linkage != "extern" => {
                    let (name, align) = (name.text.to_owned(), declaration.align);
                    self.shared.push(SharedVariable { name, size, align });
                    Place::Shared(self.shared.len() - 1)
                }
                _ => Place::DynamicShared,
            };
            self.declare(name, Named::Place(place))?;
            return self.expect(b';');
        }
        let space = match declaration.space {
            "global" => VariableSpace::Global,
            "const" => VariableSpace::Const,
            _ => return Err(name.error("expected .global, .const or .shared")),
        };
        let mut variable = Variable {
            name: name.text.to_owned(),
            space,
            size: u64::from(declaration.size.unwrap_or(0)),
            align: u64::from(declaration.align),
            initializer: Vec::new(),
            relocations: Vec::new(),
            visible: matches!(linkage, "visible" | "weak" | "common"),
            external: linkage == "extern",
            managed: declaration.managed,
        };
        if self.accept(b'=') {
            self.initializer(&mut variable, &declaration, 0)?;
            let length = variable.initializer.len() as u64;
            if declaration.size.is_none() {
                variable.size = length;
            }
            if length > variable.size {
                return Err(name.error("initialiser is larger than the variable"));
            }
        }
        // A definition may follow an external declaration.
        let known = self.variables.iter().position(|known| known.name == variable.name && self.scope == 0);
        match known {
            Some(index) if self.variables[index].external => self.variables[index] = variable,
            Some(_) if variable.external => {}
            _ => {
                self.variables.push(variable);
                self.declare(name, Named::Place(Place::Variable(self.variables.len() - 1)))?;
            }
        }
        self.expect(b';')
    }

    fn initializer(
        &mut self,
        variable: &mut Variable,
        declaration: &Declaration<'_>,
        depth: u32,
    ) -> Parse<()> {
        if self.is_mark(b'{') {
            if depth > 16 {
                return Err(self.peek().error("initialiser nested too deeply"));
            }
            self.next();
            while !self.accept(b'}') {
                self.initializer(variable, declaration, depth + 1)?;
                if !self.accept(b',') {
                    self.expect(b'}')?;
                    break;
                }
            }
            return Ok(());
        }
        let token = self.peek();
        let element = declaration.element as usize;
        let offset = variable.initializer.len() as u64;
        let bytes: u64 = match token.kind {
            Kind::Float32(bits) => {
                self.next();
                if element == 8 { f64::from(f32::from_bits(bits)).to_bits() } else { u64::from(bits) }
            }
            Kind::Float64(bits) => {
                self.next();
                if element == 4 { u64::from((f64::from_bits(bits) as f32).to_bits()) } else { bits }
            }
            Kind::Mark(b'-') if matches!(self.peek_second().kind, Kind::Float32(_) | Kind::Float64(_)) => {
                self.next();
                match self.next().kind {
                    Kind::Float32(bits) => u64::from(bits ^ 1 << 31),
                    Kind::Float64(bits) if element == 4 => {
                        u64::from((-f64::from_bits(bits) as f32).to_bits())
                    }
                    Kind::Float64(bits) => bits ^ 1 << 63,
                    _ => 0,
                }
            }
            Kind::Name => {
                self.relocation(variable, offset, element as u32, 0)?;
                0
            }
            // One byte of an address: 0xFF00(symbol).
            Kind::Integer(mask) if self.peek_second().kind == Kind::Mark(b'(') => {
                self.next();
                self.next();
                if mask == 0 {
                    return Err(token.error("empty mask"));
                }
                self.relocation(variable, offset, element as u32, mask.trailing_zeros())?;
                self.expect(b')')?;
                0
            }
            _ => {
                let value = self.constant()? as u64;
                match (declaration.is_float, element) {
                    (true, 4) => u64::from((value as i64 as f32).to_bits()),
                    (true, 8) => (value as i64 as f64).to_bits(),
                    _ => value,
                }
            }
        };
        let bytes = u128::from(bytes).to_le_bytes();
        if element > bytes.len() {
            return Err(token.error("vector initialiser of this size is not understood"));
        }
        variable.initializer.extend_from_slice(&bytes[..element]);
        Ok(())
    }

    fn relocation(&mut self, variable: &mut Variable, offset: u64, size: u32, shift: u32) -> Parse<()> {
        let mut token = self.name()?;
        let generic = token.text == "generic" && self.accept(b'(');
        if generic {
            token = self.name()?;
            self.expect(b')')?;
        }
        let mut addend = 0i64;
        while self.is_mark(b'+') || self.is_mark(b'-') {
            let minus = self.next().kind == Kind::Mark(b'-');
            let value = self.factor(0)?;
            addend = if minus { addend.wrapping_sub(value) } else { addend.wrapping_add(value) };
        }
        let symbol = match self.lookup(token.text) {
            Some(Named::Place(Place::Variable(index))) => Symbol::Variable(index),
            Some(Named::Place(Place::Function(index))) => Symbol::Function(index),
            _ => return Err(token.error("not a variable or function")),
        };
        variable.relocations.push(Relocation { offset, size: size.min(8), shift, symbol, addend });
        Ok(())
    }
}
