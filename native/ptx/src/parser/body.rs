//! Function bodies: declarations, labels, statements.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::scope::Named;
use super::{Parse, Parser};
use crate::ast::{Operand, Place, Statement};
use crate::decode::{Decoder, Labels, Reject};
use crate::error::Unsupported;
use crate::lexer::Kind;
use crate::module::Function;
use crate::program::{Builtin, CallSite, Code, Piece, Target};

/// Every opcode of PTX 9.0; a name outside this list is malformed, not unsupported.
const OPCODES: &str = " abs activemask add addc alloca and applypriority atom bar barrier bfe bfi bfind bmsk bra brev \
    brkpt brx call clusterlaunchcontrol clz cnot copysign cos cp createpolicy cvt cvta discard div dp2a dp4a elect ex2 exit \
    fence fma fns getctarank griddepcontrol isspacep istypep ld ldmatrix ldu lg2 lop3 mad mad24 madc mapa match \
    max mbarrier membar min mma mov movmatrix mul mul24 multimem nanosleep neg not or pmevent popc prefetch \
    prefetchu prmt rcp red redux rem ret rsqrt sad selp set setmaxnreg setp shf shfl shl shr sin slct sqrt st \
    stackrestore stacksave stmatrix st_async sub subc suld suq sured sust szext tanh tcgen05 tensormap testp tex tld4 trap txq \
    vabsdiff vabsdiff2 vabsdiff4 vadd vadd2 vadd4 vavrg2 vavrg4 vmad vmax vmax2 vmax4 vmin vmin2 vmin4 vote vset \
    vset2 vset4 vshl vshr vsub vsub2 vsub4 wgmma wmma xor ";

impl<'a> Parser<'a> {
    pub(super) fn body(&mut self, function: &mut Function) -> Parse<()> {
        let open = self.peek();
        self.expect(b'{')?;
        let root = self.scope;
        let mut statements: Vec<Statement<'a>> = Vec::new();
        let mut labels = Labels::default();
        let mut prototypes: HashMap<&'a str, ()> = HashMap::new();
        loop {
            let token = self.peek();
            match token.kind {
                Kind::Mark(b'{') => {
                    self.next();
                    self.open_scope();
                }
                Kind::Mark(b'}') => {
                    self.next();
                    if self.scope == root {
                        break;
                    }
                    self.close_scope();
                }
                Kind::Mark(b';') => {
                    self.next();
                }
                Kind::Dot => self.body_directive()?,
                Kind::Name if self.peek_second().kind == Kind::Mark(b':') => {
                    self.next();
                    self.next();
                    let directive = self.peek();
                    match (directive.kind, directive.text) {
                        (Kind::Dot, "callprototype" | "calltargets") => {
                            self.skip_until(b';')?;
                            prototypes.insert(token.text, ());
                        }
                        (Kind::Dot, "branchtargets") => {
                            self.next();
                            let mut targets = vec![self.name()?.text];
                            while self.accept(b',') {
                                targets.push(self.name()?.text);
                            }
                            self.expect(b';')?;
                            labels.tables.insert(token.text, (self.scope, targets));
                        }
                        _ => {
                            if labels.places.insert((self.scope, token.text), statements.len()).is_some() {
                                return Err(token.error("label is defined twice"));
                            }
                        }
                    }
                }
                Kind::Name | Kind::Mark(b'@') => {
                    let statement = self.statement()?;
                    statements.push(statement);
                }
                Kind::End => return Err(open.error("function body without an end")),
                _ => return Err(token.error("expected an instruction")),
            }
        }
        labels.parents = self.scopes.iter().map(|scope| scope.parent).collect();

        let mut decoder = Decoder::new(std::mem::take(&mut self.frame), function.is_entry);
        if Decoder::uses_stack(&statements) {
            let place = self.peek();
            let start = self.allocate_local(place, crate::decode::ARENA, 16)?;
            decoder.open_stack(start);
        }
        let mut starts = Vec::with_capacity(statements.len() + 1);
        for statement in &statements {
            starts.push(decoder.insts.len());
            let result = if statement.opcode == "call" {
                self.call(statement, &mut decoder, &prototypes)
            } else {
                decoder.statement(statement, &labels)
            };
            let reason = match result {
                Ok(()) => continue,
                Err(Reject::Unsupported(reason)) => reason,
                Err(Reject::Malformed(message)) => {
                    return Err(crate::error::ParseError {
                        line: statement.line,
                        column: statement.column,
                        message,
                        token: statement.text(),
                    });
                }
            };
            self.poison.get_or_insert(Unsupported {
                line: statement.line,
                instruction: statement.text(),
                reason,
            });
        }
        starts.push(decoder.insts.len());
        decoder.finish(&starts);
        for place in &decoder.places {
            if let Place::Variable(index) = place
                && self.variables[*index].external
            {
                self.poison.get_or_insert(Unsupported {
                    line: function.line,
                    instruction: self.variables[*index].name.clone(),
                    reason: "external variable is not defined in this module".to_owned(),
                });
            }
        }
        function.uses_dynamic_shared = decoder.places.contains(&Place::DynamicShared);
        function.local_bytes = self.local_peak;
        function.register_count = crate::decode::register_estimate(&statements);
        function.unsupported = self.poison.take();
        let (parameters, results) =
            (std::mem::take(&mut function.code.parameters), std::mem::take(&mut function.code.results));
        function.code = Code {
            insts: decoder.insts,
            frame: decoder.frame.slots(),
            bits: decoder.frame.bits(),
            presets: decoder.frame.presets(),
            tables: decoder.tables,
            calls: decoder.calls,
            matrices: decoder.matrices,
            parameters,
            results,
            local_bytes: self.local_peak,
            places: decoder.places,
            handovers: decoder.handovers,
            ..Code::default()
        };
        Ok(())
    }

    fn body_directive(&mut self) -> Parse<()> {
        let token = self.peek();
        match token.text {
            "reg" => {
                let vector =
                    self.tokens[self.at + 1..].iter().take(2).any(|token| matches!(token.text, "v2" | "v4"));
                let mut declaration = self.declaration()?;
                let bits = if self.declared_predicate { 1 } else { (declaration.element * 8) as u16 };
                if vector || declaration.element > 8 {
                    self.poison.get_or_insert(Unsupported {
                        line: token.line,
                        instruction: ".reg".to_owned(),
                        reason: "vector and 128-bit registers are not executed".to_owned(),
                    });
                }
                loop {
                    if self.accept(b'<') {
                        let count = self.integer()?;
                        self.expect(b'>')?;
                        self.declare_family(declaration.name, count, bits)?;
                    } else {
                        let slot = self.frame.new_slot(bits);
                        self.declare(declaration.name, Named::Register { slot, bits })?;
                    }
                    if !self.accept(b',') {
                        break;
                    }
                    declaration.name = self.name()?;
                }
                self.expect(b';')
            }
            "local" | "param" => {
                let declaration = self.declaration()?;
                let offset = self.allocate_local(token, declaration.size.unwrap_or(0), declaration.align)?;
                self.declare(declaration.name, Named::Place(Place::Local(offset)))?;
                self.expect(b';')
            }
            "shared" | "global" | "const" => self.variable(""),
            "extern" => {
                self.next();
                self.variable("extern")
            }
            "pragma" => self.skip_until(b';'),
            "loc" | "file" => {
                self.skip_line();
                Ok(())
            }
            "section" => {
                self.next();
                self.next();
                self.skip_braces()
            }
            _ => Err(token.error("unknown directive")),
        }
    }

    fn statement(&mut self) -> Parse<Statement<'a>> {
        let first = self.peek();
        let mut guard = None;
        if self.accept(b'@') {
            let negated = self.accept(b'!');
            let name = self.name()?;
            let Some(Named::Register { slot, bits: 1 }) = self.lookup(name.text) else {
                return Err(name.error("expected a predicate register"));
            };
            guard = Some((slot, negated));
        }
        let opcode = self.name()?;
        static KNOWN: LazyLock<HashSet<&str>> = LazyLock::new(|| OPCODES.split_ascii_whitespace().collect());
        if !KNOWN.contains(opcode.text) {
            return Err(opcode.error("unknown instruction"));
        }
        let mut modifiers = Vec::new();
        while self.peek().kind == Kind::Dot {
            modifiers.push(self.next().text);
        }
        let mut operands = Vec::new();
        while !self.is_mark(b';') {
            operands.push(self.operand(0)?);
            if !self.accept(b',') {
                break;
            }
        }
        if !self.is_mark(b';') {
            return Err(self.peek().error("expected ',' or ';'"));
        }
        self.next();
        Ok(Statement {
            line: first.line,
            column: first.column,
            guard,
            opcode: opcode.text,
            modifiers,
            operands,
            scope: self.scope,
        })
    }

    fn call(
        &mut self,
        statement: &Statement<'a>,
        decoder: &mut Decoder,
        prototypes: &HashMap<&'a str, ()>,
    ) -> Result<(), Reject> {
        let malformed = |message: &str| Reject::Malformed(message.to_owned());
        let mut operands = statement.operands.iter().peekable();
        let results = match operands.peek() {
            Some(Operand::Tuple(_)) => operands.next(),
            _ => None,
        };
        let target = operands.next().ok_or_else(|| malformed("call without a target"))?;
        let arguments = match operands.peek() {
            Some(Operand::Tuple(_)) => operands.next(),
            _ => None,
        };
        let pieces = |list: Option<&Operand<'a>>| -> Result<Vec<Piece>, Reject> {
            let Some(Operand::Tuple(items)) = list else { return Ok(Vec::new()) };
            let piece = |item: &Operand<'a>| {
                let offset = Self::local_place(item)
                    .ok_or_else(|| Reject::Unsupported("call operands outside of .param".to_owned()))?;
                Ok(Piece { offset, size: 0 })
            };
            items.iter().map(piece).collect()
        };
        let (mut results, mut arguments) = (pieces(results)?, pieces(arguments)?);
        let target = match target {
            Operand::Symbol(Place::Function(index), 0) => {
                let callee = &self.functions[*index];
                let declared = (&callee.code.parameters, &callee.code.results);
                for (pieces, declared) in [(&mut arguments, declared.0), (&mut results, declared.1)] {
                    if pieces.len() != declared.len() {
                        return Err(malformed("call does not fit the function's parameters"));
                    }
                    for (piece, declared) in pieces.iter_mut().zip(declared) {
                        piece.size = declared.size;
                        if piece.offset.checked_add(piece.size).is_none_or(|end| end > self.local_peak) {
                            return Err(malformed("call operand is smaller than the parameter"));
                        }
                    }
                }
                let builtin = match callee.name.as_str() {
                    "vprintf" => Some(Builtin::Printf),
                    "malloc" => Some(Builtin::Malloc),
                    "free" => Some(Builtin::Free),
                    "__assertfail" => Some(Builtin::AssertFail),
                    _ => None,
                };
                match builtin {
                    Some(builtin) if callee.code.declared_only => Target::Builtin(builtin),
                    _ => Target::Function(*index),
                }
            }
            Operand::Register { slot, .. } => {
                if let Some(Operand::Name(name)) = operands.next()
                    && !prototypes.contains_key(name)
                {
                    return Err(malformed("undefined prototype"));
                }
                Target::Indirect(*slot)
            }
            _ => return Err(malformed("undefined function")),
        };
        decoder.call(statement, CallSite { target, arguments, results });
        Ok(())
    }
}
