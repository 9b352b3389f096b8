//! Names in nested scopes, and parametrised registers (`%r<10>`), whose slots appear on first use.

use std::collections::HashMap;

use super::{Parse, Parser};
use crate::ast::{Place, Slot, Special};
use crate::lexer::Token;
use crate::program::{Preset, RESERVED_SHARED_BYTES, RESERVED_SHARED_PARTS};

#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    Register { slot: Slot, bits: u16 },
    Place(Place),
}

#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub parent: usize,
    names: HashMap<&'a str, Named>,
    /// Prefix to count and width.
    families: HashMap<&'a str, (u64, u16)>,
    /// `.local` watermark to return to.
    pub local: u32,
}

impl<'a> Parser<'a> {
    pub(super) fn open_scope(&mut self) -> usize {
        self.scopes.push(Scope { parent: self.scope, local: self.local, ..Scope::default() });
        self.scope = self.scopes.len() - 1;
        self.scope
    }

    pub(super) fn close_scope(&mut self) {
        self.local = self.scopes[self.scope].local;
        self.scope = self.scopes[self.scope].parent;
    }

    pub(super) fn declare(&mut self, name: Token<'a>, named: Named) -> Parse<()> {
        if name.text == "_" {
            return Ok(());
        }
        if self.scopes[self.scope].names.insert(name.text, named).is_some() {
            return Err(name.error("name is declared twice"));
        }
        Ok(())
    }

    pub(super) fn declare_family(&mut self, prefix: Token<'a>, count: u64, bits: u16) -> Parse<()> {
        if self.scopes[self.scope].families.insert(prefix.text, (count, bits)).is_some() {
            return Err(prefix.error("name is declared twice"));
        }
        Ok(())
    }

    pub(super) fn lookup(&mut self, name: &'a str) -> Option<Named> {
        let prefix = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let number = &name[prefix.len()..];
        let number =
            if number.len() > 1 && number.starts_with('0') { None } else { number.parse::<u64>().ok() };
        let mut scope = self.scope;
        loop {
            if let Some(&named) = self.scopes[scope].names.get(name) {
                return Some(named);
            }
            let family = number.and_then(|number| {
                self.scopes[scope].families.get(prefix).filter(|&&(count, _)| number < count).copied()
            });
            if let Some((_, bits)) = family {
                let named = Named::Register { slot: self.frame.new_slot(bits), bits };
                self.scopes[scope].names.insert(name, named);
                return Some(named);
            }
            if scope == 0 {
                return self.function_names.get(name).map(|&index| Named::Place(Place::Function(index)));
            }
            scope = self.scopes[scope].parent;
        }
    }
}

/// The special register of that name (without `%`).
pub(super) fn special(name: &str) -> Option<Special> {
    use Preset::*;
    let fixed = match name {
        "laneid" => Lane,
        "warpid" => Warp,
        "nwarpid" => WarpCount,
        "lanemask_eq" => LaneMaskEq,
        "lanemask_lt" => LaneMaskLt,
        "lanemask_le" => LaneMaskLe,
        "lanemask_gt" => LaneMaskGt,
        "lanemask_ge" => LaneMaskGe,
        "smid" => Processor,
        "nsmid" => ProcessorCount,
        "gridid" => GridId,
        "dynamic_smem_size" => DynamicSharedBytes,
        "total_smem_size" => TotalSharedBytes,
        "aggr_smem_size" => AggregateSharedBytes,
        "reserved_smem_offset_begin" => ReservedShared(0),
        "reserved_smem_offset_end" => ReservedShared(RESERVED_SHARED_BYTES),
        "reserved_smem_offset_0" => ReservedShared(RESERVED_SHARED_PARTS[0]),
        "reserved_smem_offset_1" => ReservedShared(RESERVED_SHARED_PARTS[1]),
        "reserved_smem_offset_cap" => Constant(RESERVED_SHARED_BYTES.into()),
        "envreg1" => WorkspaceHigh,
        "envreg2" => WorkspaceLow,
        "clock" => return Some(Special::Clock),
        "clock_hi" => return Some(Special::ClockHigh),
        "clock64" => return Some(Special::Clock64),
        "globaltimer" => return Some(Special::GlobalTimer),
        "globaltimer_lo" => return Some(Special::GlobalTimerLow),
        "globaltimer_hi" => return Some(Special::GlobalTimerHigh),
        "is_explicit_cluster" => Constant(0),
        _ => {
            let number: u32 = name.strip_prefix("envreg")?.parse().ok()?;
            return (number < 32).then_some(Special::Fixed(Constant(0)));
        }
    };
    Some(Special::Fixed(fixed))
}

/// A component of `%tid`, `%ntid`, `%ctaid` or `%nctaid`.
pub(super) fn special_vector(name: &str, component: &str) -> Option<Special> {
    let axis = match component {
        "x" => 0,
        "y" => 1,
        "z" => 2,
        "w" => return special_vector(name, "x").map(|_| Special::Fixed(Preset::Constant(0))),
        _ => return None,
    };
    Some(Special::Fixed(match name {
        "tid" => Preset::ThreadId(axis),
        "ntid" => Preset::BlockSize(axis),
        "ctaid" => Preset::BlockId(axis),
        "nctaid" => Preset::GridSize(axis),
        _ => return None,
    }))
}
