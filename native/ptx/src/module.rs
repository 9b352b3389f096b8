//! A parsed module: functions, variables and what the host needs to know of them.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::{ParseError, Unsupported};
use crate::parser::SharedVariable;
use crate::program::Code;

/// A parsed PTX module: immutable, shared by every context that loaded it.
#[derive(Debug)]
pub struct Module {
    pub(crate) version: (u32, u32),
    pub(crate) target: String,
    pub(crate) address_size: u32,
    pub(crate) functions: Vec<Function>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) shared: Vec<SharedVariable>,
    pub(crate) id: u16,
}

/// Where a module-scope variable lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableSpace {
    /// `.global`
    Global,
    /// `.const`: readable by kernels, at an ordinary global-memory address.
    Const,
}

/// A module-scope `.global` or `.const` variable. The loader gives it memory and writes
/// `initializer`, zeros and `relocations` there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// Global or const.
    pub space: VariableSpace,
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// The first bytes; what follows up to `size` is zero.
    pub initializer: Vec<u8>,
    /// Places that hold addresses of other symbols.
    pub relocations: Vec<Relocation>,
    /// Declared `.visible`, `.weak` or `.common`: found by name from outside.
    pub visible: bool,
    /// Declared `.extern` and not defined here; functions that use it are unsupported.
    pub external: bool,
    /// Declared `.managed` (in the `.attribute` directive).
    pub managed: bool,
}

/// An address stored inside an initialised variable, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relocation {
    /// Byte offset inside the variable.
    pub offset: u64,
    /// Bytes to store: 8, or fewer for a part of the address.
    pub size: u32,
    /// The part starts at this bit of the address.
    pub shift: u32,
    /// Whose address.
    pub symbol: Symbol,
    /// Added to the address.
    pub addend: i64,
}

/// The target of a relocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// Index into [`Module::variables`].
    Variable(usize),
    /// A function: store [`Module::function_address`] of this index.
    Function(usize),
}

/// A kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Byte offset in the packed parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A kernel (or a device function, which cannot be launched).
#[derive(Debug)]
#[non_exhaustive]
pub struct Function {
    /// Name as in the PTX text.
    pub name: String,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Bytes of shared memory declared statically, including what called functions use.
    pub static_shared_bytes: u32,
    /// Bytes of shared memory in front of those, which the system reserves and the kernel can find.
    pub(crate) reserved_shared_bytes: u32,
    /// Bytes of local memory per thread of this function alone.
    pub local_bytes: u32,
    /// Largest block from `.maxntid` or `.reqntid`, in threads.
    pub max_threads: Option<u32>,
    /// The exact block shape from `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// Estimate of the 32-bit hardware registers that a thread needs.
    pub register_count: u32,
    /// Uses an `.extern .shared` array.
    pub uses_dynamic_shared: bool,
    /// Line of the definition.
    pub line: u32,
    /// Set when it, or a function it calls, holds an instruction that is not executed.
    pub unsupported: Option<Unsupported>,
    pub(crate) is_entry: bool,
    pub(crate) code: Code,
}

/// Device function addresses live in a generic window of their own.
pub(crate) const FUNCTION_WINDOW: u64 = 4 << 48;

impl Module {
    /// Parses PTX text (a trailing NUL is accepted).
    ///
    /// # Errors
    /// Malformed text, with the place. Unsupported but well-formed instructions are no error: see
    /// [`Function::unsupported`].
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        crate::parser::parse(source)
    }

    pub(crate) fn next_id() -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// `.version`, major and minor.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The first word of `.target`, for instance `sm_80`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `.address_size` (64 unless the text says otherwise).
    pub fn address_size(&self) -> u32 {
        self.address_size
    }

    /// The kernels, in the order of the text.
    pub fn entries(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|function| function.is_entry)
    }

    /// Kernels and device functions; [`Symbol::Function`] is an index here.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The kernel of that name.
    pub fn entry(&self, name: &str) -> Option<&Function> {
        self.entries().find(|function| function.name == name)
    }

    /// Module-scope `.global` and `.const` variables.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The value of a pointer to function `index` (see [`Symbol::Function`]).
    pub fn function_address(&self, index: usize) -> u64 {
        FUNCTION_WINDOW | u64::from(self.id) << 32 | (index as u64) << 4
    }
}
