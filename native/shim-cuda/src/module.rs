//! Modules, libraries, and what is known of their functions.

use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::{CUfunction_attribute, CUresult};
use rustc_hash::FxHashMap;
use wire::Reader;
use wire::code_table::{CodeTable, Description};
use wire::cuda::{AttributeValue, ParameterInfo};
use wire::handle::{Context, Function, Handle, Kernel, Library, Module};

use crate::client::Client;
use crate::entry::Answer;

/// Pieces in which images beyond a record are uploaded.
const UPLOAD_PIECE: usize = 4 << 20;

/// Images up to this size travel with the load itself.
const INLINE_IMAGE: usize = 8 << 20;

/// What is known about a kernel or a function.
#[derive(Debug)]
pub struct Code {
    /// Its name, as long as the process lives: `cuFuncGetName` hands out a pointer to it.
    pub name: &'static CStr,
    /// The module it is from; none for kernels.
    pub module: Option<Module>,
    /// The library it is from; none for functions of plain modules.
    pub library: Option<Library>,
    /// Where its parameters lie.
    pub parameters: Vec<ParameterInfo>,
    attributes: Mutex<Vec<AttributeValue>>,
}

impl Code {
    /// Code as the worker described it.
    pub fn new(
        name: &CStr,
        module: Option<Module>,
        library: Option<Library>,
        attributes: Vec<AttributeValue>,
        parameters: Vec<ParameterInfo>,
    ) -> Code {
        // Programs may keep the pointer to a name for ever, so names are never freed: a few bytes a kernel.
        let name: &'static CStr = Box::leak(CString::from(name).into_boxed_c_str());
        Code { name, module, library, parameters, attributes: Mutex::new(attributes) }
    }

    /// The same code under another handle: what is set there is not set here.
    pub fn copy(&self) -> Code {
        let known = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        Code {
            name: self.name,
            module: self.module,
            library: self.library,
            parameters: self.parameters.clone(),
            attributes: Mutex::new(known.clone()),
        }
    }

    /// An attribute's value.
    pub fn attribute(&self, attribute: CUfunction_attribute) -> Option<i32> {
        let known = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|entry| entry.attribute == attribute).map(|entry| entry.value)
    }

    /// Notes that a program set an attribute.
    pub fn set_attribute(&self, attribute: CUfunction_attribute, value: i32) {
        let mut known = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.iter_mut().find(|entry| entry.attribute == attribute) {
            entry.value = value;
        }
    }

    /// Bytes of the packed parameters.
    pub fn parameter_bytes(&self) -> usize {
        let end = self.parameters.iter().map(|parameter| parameter.offset + parameter.size).max();
        usize::try_from(end.unwrap_or(0)).unwrap_or(usize::MAX)
    }
}

/// A loaded module or library.
#[derive(Debug, Default)]
struct Unit {
    context: Option<Context>,
    code: FxHashMap<CString, u64>,
    /// Address and size of variables. Those of a library lie elsewhere in each context, so its index is part of
    /// the key; it is 0 for a module, which has one context only.
    globals: FxHashMap<(CString, u32), (u64, u64)>,
    /// What the worker said about its kernels.
    table: Option<Arc<UnitCode>>,
}

/// The kernels of a module or library, as the worker described them when it was loaded.
#[derive(Debug)]
pub struct UnitCode {
    /// Their names, in the driver's order.
    pub names: Vec<CString>,
    described: FxHashMap<CString, Option<Description>>,
}

impl UnitCode {
    /// The table that came with a load; `None` where the driver could not tell.
    pub fn read(bytes: &[u8]) -> Option<Arc<UnitCode>> {
        let mut reader = Reader::new(bytes);
        let table = CodeTable::decode(&mut reader);
        if reader.has_failed() {
            return None;
        }
        let mut known = UnitCode { names: Vec::new(), described: FxHashMap::default() };
        for kernel in table.kernels {
            let name = CString::new(kernel.name).ok()?;
            known.names.push(name.clone());
            known.described.insert(name, kernel.described);
        }
        Some(Arc::new(known))
    }
}

/// What is known about a name.
#[derive(Debug)]
pub enum Found {
    /// It was looked up before, under this handle.
    Handle(u64),
    /// Everything about it.
    Described(Description),
    /// Nothing: the worker must be asked.
    Nothing,
}

impl Unit {
    fn global_key(&self, name: &CStr, context: u32) -> (CString, u32) {
        (name.to_owned(), if self.context.is_some() { 0 } else { context })
    }
}

#[derive(Debug, Default)]
struct Table {
    units: FxHashMap<u64, Unit>,
    code: FxHashMap<u64, Arc<Code>>,
    /// Functions that kernels became, by kernel and context.
    functions: FxHashMap<(Kernel, u32), Function>,
    /// Modules that libraries became, by library and context.
    modules: FxHashMap<(Library, u32), Module>,
}

/// All modules and libraries of this process.
#[derive(Debug, Default)]
pub struct Modules {
    table: Mutex<Table>,
}

impl Modules {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a loaded module (with its context) or library (without).
    pub fn insert_unit(&self, unit: u64, context: Option<Context>, table: Option<Arc<UnitCode>>) {
        self.table().units.insert(unit, Unit { context, table, ..Unit::default() });
    }

    /// What the worker said about the kernels of a module or library.
    pub fn unit_code(&self, unit: u64) -> Option<Arc<UnitCode>> {
        self.table().units.get(&unit)?.table.clone()
    }

    /// Whether the module or library is loaded.
    pub fn check_unit(&self, unit: u64) -> Answer {
        if self.table().units.contains_key(&unit) { Ok(()) } else { Err(CUresult::INVALID_HANDLE) }
    }

    /// The context that a module belongs to.
    pub fn context_of(&self, module: Module) -> Option<Context> {
        self.table().units.get(&module.raw())?.context
    }

    /// Forgets a module or library with its functions; answers the addresses of its variables.
    pub fn remove_unit(&self, unit: u64) -> Vec<u64> {
        crate::prepared::forget();
        let mut table = self.table();
        let Some(gone) = table.units.remove(&unit) else { return Vec::new() };
        for handle in gone.code.values() {
            table.code.remove(handle);
        }
        let dead: Vec<Function> = table
            .functions
            .iter()
            .filter(|((kernel, _), _)| gone.code.values().any(|handle| *handle == kernel.raw()))
            .map(|(_, function)| *function)
            .collect();
        table.functions.retain(|_, function| !dead.contains(function));
        for function in dead {
            table.code.remove(&function.raw());
        }
        let modules: Vec<Module> = table
            .modules
            .iter()
            .filter(|((library, _), _)| library.raw() == unit)
            .map(|(_, module)| *module)
            .collect();
        table.modules.retain(|(library, _), _| library.raw() != unit);
        drop(table);
        let mut addresses: Vec<u64> = gone.globals.values().map(|(address, _)| *address).collect();
        // The modules that a library became go with it.
        addresses.extend(modules.iter().flat_map(|module| self.remove_unit(module.raw())));
        addresses
    }

    /// Forgets what belonged to a destroyed context.
    pub fn forget_context(&self, context: Context) {
        let gone: Vec<u64> = {
            let table = self.table();
            let units = table.units.iter();
            units.filter(|(_, unit)| unit.context == Some(context)).map(|(unit, _)| *unit).collect()
        };
        for unit in gone {
            self.remove_unit(unit);
        }
        let index = crate::client::index_of(context);
        let mut table = self.table();
        let functions = table.functions.iter().filter(|((_, owner), _)| *owner == index);
        for function in functions.map(|(_, function)| function.raw()).collect::<Vec<_>>() {
            table.code.remove(&function);
        }
        table.functions.retain(|(_, owner), _| *owner != index);
        table.modules.retain(|(_, owner), _| *owner != index);
        for unit in table.units.values_mut() {
            unit.globals.retain(|(_, owner), _| *owner != index);
        }
    }

    /// What is known about the function or kernel `name`.
    ///
    /// Errors: `INVALID_HANDLE` for a unit that is not loaded, `NOT_FOUND` for a name that it does not have, the
    /// driver's code for a kernel that it cannot execute.
    pub fn look_up(&self, unit: u64, name: &CStr) -> Answer<Found> {
        let table = self.table();
        let unit = table.units.get(&unit).ok_or(CUresult::INVALID_HANDLE)?;
        if let Some(handle) = unit.code.get(name) {
            return Ok(Found::Handle(*handle));
        }
        let Some(code) = &unit.table else { return Ok(Found::Nothing) };
        match code.described.get(name).ok_or(CUresult::NOT_FOUND)? {
            Some(description) => {
                CUresult(description.result).into_result()?;
                Ok(Found::Described(description.clone()))
            }
            None => Ok(Found::Nothing),
        }
    }

    /// Notes a function or kernel of a loaded unit.
    pub fn insert_code(&self, unit: u64, handle: u64, code: Code) {
        let mut table = self.table();
        if let Some(unit) = table.units.get_mut(&unit) {
            unit.code.insert(code.name.to_owned(), handle);
        }
        table.code.insert(handle, Arc::new(code));
    }

    /// What is known about a function or kernel.
    ///
    /// Errors: `INVALID_HANDLE` when it does not exist.
    pub fn code(&self, handle: u64) -> Answer<Arc<Code>> {
        self.table().code.get(&handle).cloned().ok_or(CUresult::INVALID_HANDLE)
    }

    /// The variable `name` as it is in the context `context`, if it was looked up there before.
    pub fn known_global(&self, unit: u64, name: &CStr, context: u32) -> Option<(u64, u64)> {
        let table = self.table();
        let unit = table.units.get(&unit)?;
        unit.globals.get(&unit.global_key(name, context)).copied()
    }

    /// Notes a variable as it is in the context `context`.
    pub fn insert_global(&self, unit: u64, name: &CStr, context: u32, address: u64, size: u64) {
        if let Some(unit) = self.table().units.get_mut(&unit) {
            unit.globals.insert(unit.global_key(name, context), (address, size));
        }
    }

    /// The function that `kernel` is in the context `context`, if it was asked for before.
    pub fn known_function(&self, kernel: Kernel, context: u32) -> Option<Function> {
        self.table().functions.get(&(kernel, context)).copied()
    }

    /// Notes the function that a kernel is in a context.
    pub fn insert_function(&self, kernel: Kernel, context: u32, function: Function, code: Code) {
        let mut table = self.table();
        table.functions.insert((kernel, context), function);
        table.code.insert(function.raw(), Arc::new(code));
    }

    /// The functions that `kernel` is in all contexts that asked.
    pub fn functions_of(&self, kernel: Kernel) -> Vec<Arc<Code>> {
        let table = self.table();
        let functions = table.functions.iter().filter(|((owner, _), _)| *owner == kernel);
        functions.filter_map(|(_, function)| table.code.get(&function.raw()).cloned()).collect()
    }

    /// The module that `library` is in the context `context`, if it was asked for before.
    pub fn known_module(&self, library: Library, context: u32) -> Option<Module> {
        self.table().modules.get(&(library, context)).copied()
    }

    /// Notes the module that a library is in a context.
    pub fn insert_module(&self, library: Library, context: u32, module: Module) {
        self.table().modules.insert((library, context), module);
    }
}

/// An image on its way to the worker: small ones travel inside the load, large ones ahead of it in pieces.
#[derive(Debug)]
pub struct Upload<'a> {
    /// Number under which the pieces wait at the worker; 0 for an image inside the load.
    pub blob: u64,
    /// The image, if it travels inside the load.
    pub inline: &'a [u8],
}

impl<'a> Upload<'a> {
    /// Sends `image` ahead if it is large.
    pub fn start(client: &Client, image: &'a [u8]) -> Answer<Upload<'a>> {
        if image.len() <= INLINE_IMAGE {
            return Ok(Upload { blob: 0, inline: image });
        }
        let blob = client.new_number();
        for piece in image.chunks(UPLOAD_PIECE) {
            client.upload(
                <wire::cuda::FarpoolStage<'_> as wire::Request<'_>>::CALL,
                |writer| writer.put_u64(blob),
                piece,
            )?;
        }
        Ok(Upload { blob, inline: &[] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_librarys_variable_is_another_one_in_each_context_and_goes_with_it() {
        let modules = Modules::default();
        let (library, first, second) =
            (Library::from_index(1), Context::from_index(2), Context::from_index(3));
        modules.insert_unit(library.raw(), None, None);
        modules.insert_global(library.raw(), c"v", 2, 0x1000, 4);
        assert_eq!(modules.known_global(library.raw(), c"v", 3), None);
        modules.insert_global(library.raw(), c"v", 3, 0x2000, 4);
        assert_eq!(modules.known_global(library.raw(), c"v", 2), Some((0x1000, 4)));
        modules.forget_context(first);
        assert_eq!(modules.known_global(library.raw(), c"v", 2), None);
        assert_eq!(modules.known_global(library.raw(), c"v", 3), Some((0x2000, 4)));
        modules.forget_context(second);
        assert!(modules.remove_unit(library.raw()).is_empty());
    }

    #[test]
    fn a_modules_variable_is_the_same_from_every_context() {
        let modules = Modules::default();
        let module = Module::from_index(1);
        modules.insert_unit(module.raw(), Some(Context::from_index(2)), None);
        modules.insert_global(module.raw(), c"v", 2, 0x1000, 4);
        assert_eq!(modules.known_global(module.raw(), c"v", 3), Some((0x1000, 4)));
    }

    #[test]
    fn what_a_library_became_in_a_context_goes_with_the_library_and_with_the_context() {
        let modules = Modules::default();
        let (library, module, context) =
            (Library::from_index(1), Module::from_index(2), Context::from_index(3));
        let code = || Code::new(c"f", None, None, Vec::new(), Vec::new());
        modules.insert_unit(library.raw(), None, None);
        modules.insert_unit(module.raw(), Some(context), None);
        modules.insert_module(library, 3, module);
        modules.insert_function(Kernel::from_index(4), 3, Function::from_index(5), code());
        modules.forget_context(context);
        assert!(modules.code(Function::from_index(5).raw()).is_err());
        modules.insert_unit(module.raw(), Some(context), None);
        modules.insert_module(library, 3, module);
        modules.remove_unit(library.raw());
        assert!(modules.check_unit(module.raw()).is_err());
    }

    #[test]
    fn a_name_is_looked_up_in_the_table_that_came_with_the_load() {
        use wire::code_table::KernelEntry;
        let description = |result| Some(Description { result, ..Description::default() });
        let table = CodeTable {
            kernels: vec![
                KernelEntry { name: b"described".to_vec(), described: description(0) },
                KernelEntry { name: b"refused".to_vec(), described: description(CUresult::NOT_SUPPORTED.0) },
                KernelEntry { name: b"large".to_vec(), described: None },
            ],
        };
        let mut bytes = Vec::new();
        table.encode(&mut wire::Writer::new(&mut bytes));
        let modules = Modules::default();
        let module = Module::from_index(1).raw();
        modules.insert_unit(module, None, UnitCode::read(&bytes));
        assert!(matches!(modules.look_up(module, c"described"), Ok(Found::Described(_))));
        assert!(matches!(modules.look_up(module, c"large"), Ok(Found::Nothing)));
        assert_eq!(modules.look_up(module, c"refused").err(), Some(CUresult::NOT_SUPPORTED));
        assert_eq!(modules.look_up(module, c"missing").err(), Some(CUresult::NOT_FOUND));
        assert_eq!(modules.look_up(2, c"described").err(), Some(CUresult::INVALID_HANDLE));
        let older = Module::from_index(2).raw();
        modules.insert_unit(older, None, UnitCode::read(&[]));
        assert!(matches!(modules.look_up(older, c"missing"), Ok(Found::Nothing)), "the worker must be asked");
    }
}
