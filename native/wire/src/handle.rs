//! Handles that the client makes: one number names an object from its creation on, so that creating one
//! needs no round trip. The kind is part of the number; a worker refuses a number of another kind.

/// A kind of object behind a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `CUcontext`
    Context = 1,
    /// `CUmodule`
    Module = 2,
    /// `CUlibrary`
    Library = 3,
    /// `CUfunction`
    Function = 4,
    /// `CUkernel`
    Kernel = 5,
    /// `CUstream`
    Stream = 6,
    /// `CUevent`
    Event = 7,
    /// `CUmemoryPool`
    MemoryPool = 8,
    /// `CUgraph`
    Graph = 9,
    /// `CUgraphNode`
    GraphNode = 10,
    /// `CUgraphExec`
    GraphExec = 11,
    /// `CUarray`
    Array = 12,
}

impl Kind {
    /// The type's name in CUDA.
    pub fn cuda_name(self) -> &'static str {
        match self {
            Kind::Context => "CUcontext",
            Kind::Module => "CUmodule",
            Kind::Library => "CUlibrary",
            Kind::Function => "CUfunction",
            Kind::Kernel => "CUkernel",
            Kind::Stream => "CUstream",
            Kind::Event => "CUevent",
            Kind::MemoryPool => "CUmemoryPool",
            Kind::Graph => "CUgraph",
            Kind::GraphNode => "CUgraphNode",
            Kind::GraphExec => "CUgraphExec",
            Kind::Array => "CUarray",
        }
    }
}

/// A typed handle: `kind << 40 | index << 4`. The low bits are zero because programs are free to expect
/// the alignment of a pointer, and no handle is below 2^40, where CUDA's special stream values (1, 2) live.
pub trait Handle: Copy + Eq + std::hash::Hash + std::fmt::Debug {
    /// The kind of object.
    const KIND: Kind;
    /// From a raw number, unchecked.
    fn from_raw(raw: u64) -> Self;
    /// The raw number.
    fn raw(self) -> u64;

    /// From an index that was never used before for this kind.
    fn from_index(index: u64) -> Self {
        Self::from_raw((Self::KIND as u64) << 40 | (index << 4))
    }

    /// Whether the number has the shape of a handle of this kind.
    fn has_kind(self) -> bool {
        self.raw() >> 40 == Self::KIND as u64 && self.raw() & 0xf == 0
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl Handle for $name {
            const KIND: Kind = Kind::$kind;
            fn from_raw(raw: u64) -> Self {
                Self(raw)
            }
            fn raw(self) -> u64 {
                self.0
            }
        }
    )*};
}

handles! {
    /// A `CUcontext`.
    Context = Context;
    /// A `CUmodule`.
    Module = Module;
    /// A `CUlibrary`.
    Library = Library;
    /// A `CUfunction`.
    Function = Function;
    /// A `CUkernel`.
    Kernel = Kernel;
    /// A `CUstream`; 0 and 1 are the legacy stream.
    Stream = Stream;
    /// A `CUevent`.
    Event = Event;
    /// A `CUmemoryPool`.
    MemoryPool = MemoryPool;
    /// A `CUgraph`.
    Graph = Graph;
    /// A `CUgraphNode`.
    GraphNode = GraphNode;
    /// A `CUgraphExec`.
    GraphExec = GraphExec;
    /// A `CUarray`.
    Array = Array;
}

impl Context {
    /// What a record's header names this context with; 0 is no context.
    pub fn index(self) -> u32 {
        u32::try_from((self.0 >> 4) & u64::from(u32::MAX)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_knows_its_kind() {
        let stream = Stream::from_index(5);
        assert!(stream.has_kind());
        assert!(!Event::from_raw(stream.raw()).has_kind());
        assert!(!Stream::from_raw(2).has_kind());
    }
}
