//! PTX grammar. One pass over the tokens; a function is decoded when its body ends. Names live in
//! nested scopes: module, function, and one per `{ }` of a body.

mod body;
mod operand;
mod scope;
mod variable;

use std::collections::HashMap;

use crate::decode::Frame;
use crate::error::{ParseError, Unsupported};
use crate::lexer::{Kind, Token, lex};
use crate::link;
use crate::module::{Function, Module, Param, Variable};
use crate::program::{Code, Piece};
use scope::{Named, Scope};

/// A shared variable, module-wide; each kernel lays out those that it can reach.
#[derive(Debug)]
pub(crate) struct SharedVariable {
    pub name: String,
    pub size: u32,
    pub align: u32,
}

pub(crate) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    scopes: Vec<Scope<'a>>,
    scope: usize,
    functions: Vec<Function>,
    function_names: HashMap<&'a str, usize>,
    variables: Vec<Variable>,
    shared: Vec<SharedVariable>,
    /// A name of a function, and the function that it stands for.
    aliases: Vec<(usize, usize)>,
    frame: Frame,
    /// Next free byte of the current frame's local memory, and the most ever used.
    local: u32,
    local_peak: u32,
    /// The latest declaration was of type `.pred`.
    declared_predicate: bool,
    /// First unsupported thing met in the current function outside of instructions.
    poison: Option<Unsupported>,
}

type Parse<T> = Result<T, ParseError>;

/// Parses a module.
pub(crate) fn parse(source: &str) -> Parse<Module> {
    let mut parser = Parser {
        tokens: lex(source)?,
        at: 0,
        scopes: vec![Scope::default()],
        scope: 0,
        functions: Vec::new(),
        function_names: HashMap::new(),
        variables: Vec::new(),
        shared: Vec::new(),
        aliases: Vec::new(),
        frame: Frame::default(),
        local: 0,
        local_peak: 0,
        declared_predicate: false,
        poison: None,
    };
    let mut module = Module {
        version: (0, 0),
        target: String::new(),
        address_size: 64,
        functions: Vec::new(),
        variables: Vec::new(),
        shared: Vec::new(),
        id: Module::next_id(),
    };
    parser.header(&mut module)?;
    while parser.peek().kind != Kind::End {
        parser.top_level()?;
    }
    module.functions = parser.functions;
    module.variables = parser.variables;
    module.shared = parser.shared;
    link::link(&mut module, &parser.aliases);
    Ok(module)
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens[self.at]
    }

    fn peek_second(&self) -> Token<'a> {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.tokens[self.at];
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn is_mark(&self, mark: u8) -> bool {
        self.peek().kind == Kind::Mark(mark)
    }

    fn accept(&mut self, mark: u8) -> bool {
        let found = self.is_mark(mark);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, mark: u8) -> Parse<()> {
        if self.accept(mark) {
            return Ok(());
        }
        Err(self.peek().error(format!("expected '{}'", mark as char)))
    }

    fn accept_dot(&mut self, word: &str) -> bool {
        let token = self.peek();
        let found = token.kind == Kind::Dot && token.text == word;
        if found {
            self.next();
        }
        found
    }

    fn name(&mut self) -> Parse<Token<'a>> {
        let token = self.next();
        if token.kind == Kind::Name { Ok(token) } else { Err(token.error("expected a name")) }
    }

    fn integer(&mut self) -> Parse<u64> {
        let token = self.next();
        match token.kind {
            Kind::Integer(value) => Ok(value),
            _ => Err(token.error("expected an integer")),
        }
    }

    fn small(&mut self) -> Parse<u32> {
        let token = self.peek();
        u32::try_from(self.integer()?).map_err(|_| token.error("number too large"))
    }

    fn header(&mut self, module: &mut Module) -> Parse<()> {
        let token = self.next();
        if token.kind != Kind::Dot || token.text != "version" {
            return Err(token.error("expected .version"));
        }
        let token = self.next();
        let version = token
            .text
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        module.version = version.ok_or_else(|| token.error("expected a version such as 8.0"))?;
        let token = self.next();
        if token.kind != Kind::Dot || token.text != "target" {
            return Err(token.error("expected .target"));
        }
        self.name()?.text.clone_into(&mut module.target);
        while self.accept(b',') {
            self.name()?;
        }
        if self.accept_dot("address_size") {
            let token = self.peek();
            module.address_size = self.small()?;
            if module.address_size != 64 {
                return Err(token.error("only 64-bit addresses are executed"));
            }
        }
        Ok(())
    }

    fn skip_line(&mut self) {
        let line = self.peek().line;
        while self.peek().line == line && self.peek().kind != Kind::End {
            self.next();
        }
    }

    fn skip_until(&mut self, mark: u8) -> Parse<()> {
        while !self.is_mark(mark) {
            if self.peek().kind == Kind::End {
                return Err(self.peek().error(format!("expected '{}'", mark as char)));
            }
            self.next();
        }
        self.expect(mark)
    }

    fn skip_braces(&mut self) -> Parse<()> {
        self.expect(b'{')?;
        let mut depth = 1;
        while depth > 0 {
            let token = self.next();
            match token.kind {
                Kind::Mark(b'{') => depth += 1,
                Kind::Mark(b'}') => depth -= 1,
                Kind::End => return Err(token.error("expected '}'")),
                _ => {}
            }
        }
        Ok(())
    }

    fn top_level(&mut self) -> Parse<()> {
        let token = self.peek();
        if token.kind == Kind::Mark(b';') {
            self.next();
            return Ok(());
        }
        if token.kind != Kind::Dot {
            return Err(token.error("expected a directive"));
        }
        let mut linkage = "";
        let mut token = token;
        if matches!(token.text, "extern" | "visible" | "weak" | "common") {
            linkage = self.next().text;
            token = self.peek();
        }
        match token.text {
            "entry" | "func" => self.function(linkage),
            "global" | "const" | "shared" => self.variable(linkage),
            "file" | "loc" => {
                self.skip_line();
                Ok(())
            }
            "section" => {
                self.next();
                self.next();
                self.skip_braces()
            }
            "pragma" => self.skip_until(b';'),
            "alias" => self.alias(),
            _ => Err(token.error("unknown directive")),
        }
    }

    /// `.alias name, function;` after the declaration of `name`.
    fn alias(&mut self) -> Parse<()> {
        self.next();
        let name = self.function_name()?;
        self.expect(b',')?;
        let function = self.function_name()?;
        self.aliases.push((name, function));
        self.expect(b';')
    }

    fn function_name(&mut self) -> Parse<usize> {
        let name = self.name()?;
        self.function_names.get(name.text).copied().ok_or_else(|| name.error("not a function"))
    }

    fn function(&mut self, linkage: &str) -> Parse<()> {
        let keyword = self.next();
        let is_entry = keyword.text == "entry";
        while self.accept_dot("noreturn")
            || (self.peek().text == "attribute" && self.peek().kind == Kind::Dot)
        {
            if self.accept_dot("attribute") {
                self.skip_until(b')')?;
            }
        }
        self.scopes.truncate(1);
        self.scope = 0;
        self.open_scope();
        self.frame = Frame::new();
        (self.local, self.local_peak, self.poison) = (0, 0, None);

        let results = if !is_entry && self.is_mark(b'(') {
            self.parameters(is_entry)?
        } else {
            (Vec::new(), Vec::new())
        };
        let name = self.name()?;
        let parameters =
            if self.is_mark(b'(') { self.parameters(is_entry)? } else { (Vec::new(), Vec::new()) };
        let code = || Code {
            declared_only: true,
            parameters: parameters.1.clone(),
            results: results.1.clone(),
            ..Code::default()
        };
        let make = || Function {
            name: name.text.to_owned(),
            params: parameters.0.clone(),
            static_shared_bytes: 0,
            reserved_shared_bytes: 0,
            local_bytes: 0,
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            register_count: 16,
            uses_dynamic_shared: false,
            line: name.line,
            unsupported: None,
            is_entry,
            code: code(),
        };
        let (mut function, declared) = (make(), make());
        self.performance_directives(&mut function)?;
        let index = match self.function_names.get(name.text) {
            Some(&index) => index,
            None => {
                let index = self.functions.len();
                self.function_names.insert(name.text, index);
                self.functions.push(declared);
                index
            }
        };
        if self.accept(b';') {
            self.scope = 0;
            return Ok(());
        }
        if !self.functions[index].code.declared_only {
            return Err(name.error("function is defined twice"));
        }
        if linkage == "extern" {
            return Err(self.peek().error("expected ';' after an external declaration"));
        }
        self.body(&mut function)?;
        self.functions[index] = function;
        self.scope = 0;
        Ok(())
    }

    /// A parenthesised parameter list, as kernel parameters and as pieces of local memory.
    fn parameters(&mut self, is_entry: bool) -> Parse<(Vec<Param>, Vec<Piece>)> {
        let (mut params, mut pieces) = (Vec::new(), Vec::new());
        let mut end = 0u32;
        self.expect(b'(')?;
        while !self.is_mark(b')') {
            let place = self.peek();
            let declaration = self.declaration()?;
            if declaration.space == "reg" {
                self.poison.get_or_insert(Unsupported {
                    line: place.line,
                    instruction: ".reg".to_owned(),
                    reason: "parameters in registers are not executed".to_owned(),
                });
            } else if declaration.space != "param" {
                return Err(place.error("expected .param"));
            }
            let size = declaration.size.unwrap_or(0);
            let offset = if is_entry {
                let offset =
                    align_up(end, declaration.align).ok_or_else(|| place.error("parameters too large"))?;
                end = offset.checked_add(size).ok_or_else(|| place.error("parameters too large"))?;
                params.push(Param { offset, size, align: declaration.align });
                self.declare(declaration.name, Named::Place(crate::ast::Place::EntryParam(offset)))?;
                offset
            } else {
                let offset = self.allocate_local(place, size, declaration.align)?;
                self.declare(declaration.name, Named::Place(crate::ast::Place::Local(offset)))?;
                offset
            };
            pieces.push(Piece { offset, size });
            if !self.accept(b',') {
                break;
            }
        }
        self.expect(b')')?;
        if end > 32_764 {
            return Err(self.peek().error("kernel parameters exceed 32,764 bytes"));
        }
        Ok((params, pieces))
    }

    fn allocate_local(&mut self, place: Token<'_>, size: u32, align: u32) -> Parse<u32> {
        let offset = align_up(self.local, align);
        let end = offset.and_then(|offset| offset.checked_add(size)).filter(|&end| end <= 1 << 24);
        let (Some(offset), Some(end)) = (offset, end) else {
            return Err(place.error("local memory exceeds 16 MiB"));
        };
        self.local = end;
        self.local_peak = self.local_peak.max(end);
        Ok(offset)
    }

    fn refuse_clusters(&mut self, directive: Token<'_>) {
        self.poison.get_or_insert(Unsupported {
            line: directive.line,
            instruction: format!(".{}", directive.text),
            reason: "clusters".to_owned(),
        });
    }

    fn performance_directives(&mut self, function: &mut Function) -> Parse<()> {
        loop {
            let token = self.peek();
            if token.kind != Kind::Dot {
                return Ok(());
            }
            self.next();
            match token.text {
                "maxntid" | "reqntid" => {
                    let mut shape = [1u32; 3];
                    for side in &mut shape {
                        *side = self.small()?;
                        if !self.accept(b',') {
                            break;
                        }
                    }
                    let threads = shape.iter().try_fold(1u32, |all, &side| all.checked_mul(side));
                    function.max_threads = Some(threads.ok_or_else(|| token.error("block too large"))?);
                    if token.text == "reqntid" {
                        function.required_threads = Some(shape);
                    }
                }
                "minnctapersm" => function.min_blocks = Some(self.small()?),
                "maxnreg" | "maxnctapersm" => {
                    self.small()?;
                }
                // Which clusters it has says the launch.
                "noreturn" | "explicitcluster" => {}
                "maxclusterrank" => {
                    self.small()?;
                }
                "reqnctapercluster" => {
                    let mut blocks = self.small()?;
                    while self.accept(b',') {
                        blocks = blocks.saturating_mul(self.small()?);
                    }
                    if blocks > 1 {
                        self.refuse_clusters(token);
                    }
                }
                "blocksareclusters" => self.refuse_clusters(token),
                "pragma" => self.skip_until(b';')?,
                "abi_preserve" | "abi_preserve_control" | "retain" => {}
                _ => return Err(token.error("unknown directive")),
            }
        }
    }
}

fn align_up(value: u32, align: u32) -> Option<u32> {
    Some(value.checked_add(align - 1)? & !(align - 1))
}
