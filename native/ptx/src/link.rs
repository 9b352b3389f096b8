//! After parsing: what each function can reach. Lays out shared memory per kernel and spreads poison from
//! callees to callers.

use std::collections::HashSet;

use crate::ast::Place;
use crate::error::Unsupported;
use crate::module::{Module, Symbol};
use crate::program::{Code, Preset, RESERVED_SHARED_BYTES, Target};

pub(crate) fn link(module: &mut Module, aliases: &[(usize, usize)]) {
    for &(name, function) in aliases {
        replace(module, name, function);
    }
    let mut taken: Vec<usize> = module
        .variables
        .iter()
        .flat_map(|variable| &variable.relocations)
        .filter_map(
            |relocation| if let Symbol::Function(index) = relocation.symbol { Some(index) } else { None },
        )
        .collect();
    for function in &module.functions {
        taken.extend(
            function
                .code
                .places
                .iter()
                .filter_map(|place| if let Place::Function(index) = place { Some(*index) } else { None }),
        );
    }
    let direct: Vec<Vec<usize>> = module
        .functions
        .iter()
        .map(|function| {
            let target =
                |target: &Target| if let Target::Function(index) = target { Some(*index) } else { None };
            function.code.calls.iter().filter_map(|call| target(&call.target)).collect()
        })
        .collect();

    for start in 0..module.functions.len() {
        let (mut seen, mut stack) = (HashSet::from([start]), vec![start]);
        let mut called = HashSet::new();
        while let Some(index) = stack.pop() {
            let indirect = module.functions[index]
                .code
                .calls
                .iter()
                .any(|call| matches!(call.target, Target::Indirect(_)));
            called.extend(&direct[index]);
            let next = direct[index].iter().chain(if indirect { &taken[..] } else { &[] });
            stack.extend(next.copied().filter(|&index| seen.insert(index)));
        }
        let mut reached: Vec<usize> = seen.into_iter().collect();
        reached.sort_unstable();
        if module.functions[start].unsupported.is_none() {
            module.functions[start].unsupported = called_poison(module, &reached, &called, start);
        }
        let reserved = reached.iter().any(|&index| finds_reserved_shared(&module.functions[index].code));
        let reserved = if reserved { RESERVED_SHARED_BYTES } else { 0 };
        let (mut layout, mut variables, mut dynamic) = (Vec::new(), HashSet::new(), false);
        let mut end = u64::from(reserved);
        let mut placed = HashSet::new();
        for place in reached.iter().flat_map(|&index| &module.functions[index].code.places) {
            match *place {
                Place::Shared(index) if placed.insert(index) => {
                    let variable = &module.shared[index];
                    let align = u64::from(variable.align);
                    end = end.div_ceil(align) * align;
                    layout.push((index, end.min(u64::from(u32::MAX)) as u32));
                    end += u64::from(variable.size);
                }
                Place::DynamicShared => dynamic = true,
                Place::Variable(index) => {
                    variables.insert(index);
                }
                _ => {}
            }
        }
        let function = &mut module.functions[start];
        if function.is_entry {
            function.reserved_shared_bytes = reserved;
            function.static_shared_bytes = (end - u64::from(reserved)).min(u64::from(u32::MAX)) as u32;
            function.uses_dynamic_shared = dynamic;
            function.code.shared = layout;
            function.code.variables = variables.into_iter().collect();
        }
    }
}

fn finds_reserved_shared(code: &Code) -> bool {
    code.presets.iter().any(|(_, preset)| matches!(preset, Preset::ReservedShared(_)))
}

/// Whoever names function `from` means function `to`.
fn replace(module: &mut Module, from: usize, to: usize) {
    let change = |index: &mut usize| {
        if *index == from {
            *index = to;
        }
    };
    for relocation in module.variables.iter_mut().flat_map(|variable| &mut variable.relocations) {
        if let Symbol::Function(index) = &mut relocation.symbol {
            change(index);
        }
    }
    for code in module.functions.iter_mut().map(|function| &mut function.code) {
        for call in &mut code.calls {
            if let Target::Function(index) = &mut call.target {
                change(index);
            }
        }
        for place in &mut code.places {
            if let Place::Function(index) = place {
                change(index);
            }
        }
        for (_, preset) in &mut code.presets {
            if let Preset::Function(index) = preset {
                change(index);
            }
        }
    }
}

fn called_poison(
    module: &Module,
    reached: &[usize],
    called: &HashSet<usize>,
    start: usize,
) -> Option<Unsupported> {
    reached.iter().filter(|&&index| index != start && called.contains(&index)).find_map(|&index| {
        let callee = &module.functions[index];
        if callee.code.declared_only {
            return Some(Unsupported {
                line: callee.line,
                instruction: format!("call {}", callee.name),
                reason: "external function is not defined in this module".to_owned(),
            });
        }
        callee.unsupported.clone()
    })
}
