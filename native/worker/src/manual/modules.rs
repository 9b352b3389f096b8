//! Modules: images, JIT logs, functions and variables.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};

use cuda_abi as abi;
use cuda_abi::fatbin::{Image, ImageError, WRAPPER_MAGIC};
use cuda_abi::{CUfunction, CUjit_option, CUmodule, CUresult};
use wire::cuda::{self, AttributeValue, OptionValue, ParameterInfo};
use wire::{CallId, Reply as _, Request, Writer};

use super::{Answer, code_tables};
use crate::frees::Freed;
use crate::handles::HandleError;
use crate::waits::{Then, Unit, WaiterKey};
use crate::worker::{Worker, address};

/// `CUfunction_attribute` numbers end below this in CUDA 13.0.
const ATTRIBUTES: i32 = 16;

/// Bytes that images on their way may take together: more than any real program's, far less than a server has.
const STAGED_LIMIT: usize = 2 << 30;

/// Largest log that a client may ask for.
const LOG_LIMIT: u64 = 1 << 20;

/// Images that are being uploaded in pieces.
#[derive(Debug, Default)]
pub struct Modules {
    staged: HashMap<u64, Vec<u8>>,
    staged_bytes: usize,
}

impl Modules {
    /// The image of a load: the one inside the request, or the one that was uploaded before.
    ///
    /// Errors: `INVALID_IMAGE` for one that says it is longer than it is, or elsewhere: the driver would believe it.
    pub fn image(&mut self, blob: u64, inline: &[u8]) -> Result<Vec<u8>, CUresult> {
        let mut image = if blob == 0 {
            inline.to_vec()
        } else {
            let staged = self.staged.remove(&blob).unwrap_or_default();
            self.staged_bytes -= staged.len();
            staged
        };
        if leads_elsewhere(&image) {
            return Err(CUresult::INVALID_IMAGE);
        }
        // PTX text must end with NUL; other images do not mind.
        image.push(0);
        Ok(image)
    }
}

/// Whether whoever takes `image` for what it says it is would read what is not its own.
fn leads_elsewhere(image: &[u8]) -> bool {
    let is_wrapper = image.first_chunk::<4>().is_some_and(|word| u32::from_le_bytes(*word) == WRAPPER_MAGIC);
    is_wrapper || matches!(Image::within(image), Err(ImageError::Truncated { .. }))
}

/// A piece of an image.
pub fn farpoolStage(worker: &mut Worker, request: cuda::FarpoolStage<'_>, _reply: &mut Writer<'_>) -> Answer {
    let modules = &mut worker.modules;
    if modules.staged_bytes + request.data.len() > STAGED_LIMIT {
        return Ok(CUresult::OUT_OF_MEMORY);
    }
    modules.staged_bytes += request.data.len();
    modules.staged.entry(request.blob).or_default().extend_from_slice(request.data);
    Ok(CUresult::SUCCESS)
}

/// `cuModuleLoadDataEx`
pub fn cuModuleLoadDataEx(
    worker: &mut Worker,
    request: cuda::CuModuleLoadDataEx<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    type Load<'a> = cuda::CuModuleLoadDataEx<'a>;
    worker.handles.check_free(Load::CALL, request.module).map_err(HandleError::Wire)?;
    let image = match worker.modules.image(request.blob, request.image) {
        Ok(image) => image,
        Err(code) => {
            worker.handles.put(request.module, Err(code));
            cuda::CuModuleLoadDataExReply::default().encode(reply);
            return Ok(code);
        }
    };
    let mut options = DriverOptions::new(&request.options);
    let mut module = CUmodule::NULL;
    // SAFETY: the image stays through the call and is NUL-terminated; the options are arrays of equal length
    // whose buffers are owned by `options`. What the image says is between the client and the driver, in this
    // client's own process.
    let code = unsafe {
        worker.driver.cuModuleLoadDataEx(
            &raw mut module,
            image.as_ptr().cast(),
            options.count(),
            options.numbers.as_mut_ptr(),
            options.values.as_mut_ptr(),
        )
    };
    worker.handles.put(request.module, if code.is_success() { Ok(module.0 as u64) } else { Err(code) });
    let (info_log, error_log) = options.logs();
    let table = if code.is_success() { code_tables::of_module(worker, module) } else { Vec::new() };
    cuda::CuModuleLoadDataExReply { info_log, error_log, code: table }.encode(reply);
    Ok(code)
}

/// `cuModuleUnload`
pub fn cuModuleUnload(worker: &mut Worker, request: cuda::CuModuleUnload, _reply: &mut Writer<'_>) -> Answer {
    const CALL: CallId = cuda::CuModuleUnload::CALL;
    let raw = worker.handles.get(CALL, request.module)?;
    let index = worker.handles.context_of(request.module);
    worker.handles.remove(request.module);
    unload(worker, CALL, index, Unit::Module(CUmodule(address(raw))))
}

/// Unloads code: at once when no GPU has work, else when what the context with index `of`, or each if that is 0, does now is
/// done. The driver waits for that, and the work may need the client.
pub fn unload(worker: &mut Worker, call: CallId, of: u32, unit: Unit) -> Answer {
    let index = if of == 0 { worker.context } else { of };
    let is_idle = worker.is_all_idle() && !worker.streams.has_work_beside(worker.context);
    if worker.waits.frees().any_in(index) || !is_idle {
        let all = if of == 0 { worker.context_indices() } else { vec![of] };
        let freed = Freed { context: index, device: worker.device_of(index).unwrap_or(0), bytes: None };
        let (current, until) = worker.work_of(call, &all).map_err(HandleError::Wire)?;
        worker.waits.push(WaiterKey::Memory(index), current, until, Then::Unload { unit, call, freed });
        return Ok(CUresult::SUCCESS);
    }
    // SAFETY: the unit is alive: it was behind a live handle just now.
    Ok(unsafe {
        match unit {
            Unit::Module(module) => worker.driver.cuModuleUnload(module),
            Unit::Library(library) => worker.driver.cuLibraryUnload(library),
        }
    })
}

/// `cuModuleGetFunction`
pub fn cuModuleGetFunction(
    worker: &mut Worker,
    request: cuda::CuModuleGetFunction<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    type Get<'a> = cuda::CuModuleGetFunction<'a>;
    worker.handles.check_free(Get::CALL, request.function).map_err(HandleError::Wire)?;
    let module = CUmodule(address(worker.handles.get(Get::CALL, request.module)?));
    let Ok(name) = CString::new(request.name) else { return Ok(CUresult::NOT_FOUND) };
    let mut function = CUfunction::NULL;
    // SAFETY: the module is alive, the name NUL-terminated, the place valid.
    let code = unsafe { worker.driver.cuModuleGetFunction(&raw mut function, module, name.as_ptr()) };
    let made = if code.is_success() { Ok(function.0 as u64) } else { Err(code) };
    worker.handles.put_part(request.function, request.module, made);
    // A client that has the module's code table waits for nothing.
    if code.is_success() && worker.reply_to.is_some() {
        let (attributes, parameters) = describe(worker, function);
        cuda::CuModuleGetFunctionReply { attributes, parameters }.encode(reply);
    }
    Ok(code)
}

/// `cuModuleGetGlobal_v2`
pub fn cuModuleGetGlobal_v2(
    worker: &mut Worker,
    request: cuda::CuModuleGetGlobalV2<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(<cuda::CuModuleGetGlobalV2<'_> as Request<'_>>::CALL, request.module)?;
    let module = CUmodule(address(raw));
    let Ok(name) = CString::new(request.name) else { return Ok(CUresult::NOT_FOUND) };
    let (mut pointer, mut size) = (0, 0);
    // SAFETY: the module is alive, the name NUL-terminated, the places valid.
    let code =
        unsafe { worker.driver.cuModuleGetGlobal_v2(&raw mut pointer, &raw mut size, module, name.as_ptr()) };
    cuda::CuModuleGetGlobalV2Reply { address: pointer, size: size as u64 }.encode(reply);
    Ok(code)
}

/// Attributes and parameters of a function, so that the client never asks again.
pub fn describe(worker: &Worker, function: CUfunction) -> (Vec<AttributeValue>, Vec<ParameterInfo>) {
    let mut attributes = Vec::new();
    for attribute in 0..ATTRIBUTES {
        let mut value = 0;
        // SAFETY: the function is alive, the place valid; unknown attributes are answered with an error.
        let code = unsafe { worker.driver.cuFuncGetAttribute(&raw mut value, attribute, function) };
        if code.is_success() {
            attributes.push(AttributeValue { attribute, value });
        }
    }
    let parameters = parameters(|index, offset, size| {
        // SAFETY: the function is alive, the places valid; an index past the end is answered with an error.
        unsafe { worker.driver.cuFuncGetParamInfo(function, index, offset, size) }
    });
    (attributes, parameters)
}

/// Asks for parameter after parameter until there is none.
pub fn parameters(ask: impl Fn(usize, *mut usize, *mut usize) -> CUresult) -> Vec<ParameterInfo> {
    /// More parameters than 32 KiB of them can hold.
    const MOST: usize = 32 << 10;
    let mut all = Vec::new();
    for index in 0..MOST {
        let (mut offset, mut size) = (0, 0);
        if !ask(index, &raw mut offset, &raw mut size).is_success() {
            break;
        }
        all.push(ParameterInfo { offset: offset as u64, size: size as u64 });
    }
    all
}

/// JIT options as the driver takes them, with buffers for the logs that the client wants.
pub struct DriverOptions {
    /// The options' numbers.
    pub numbers: Vec<CUjit_option>,
    /// Their values.
    pub values: Vec<*mut c_void>,
    info: Option<Vec<u8>>,
    error: Option<Vec<u8>>,
}

impl DriverOptions {
    /// The options of a request. Each log has one buffer: of several wishes for it the first counts.
    pub fn new(options: &[OptionValue]) -> DriverOptions {
        let mut all = DriverOptions { numbers: Vec::new(), values: Vec::new(), info: None, error: None };
        for option in options {
            let size = usize::try_from(option.value.min(LOG_LIMIT)).unwrap_or(0);
            match option.option {
                abi::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES if all.info.is_some() => {}
                abi::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES if all.error.is_some() => {}
                abi::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES => {
                    let mut buffer = vec![0; size];
                    all.log(abi::CU_JIT_INFO_LOG_BUFFER, abi::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, &mut buffer);
                    all.info = Some(buffer);
                }
                abi::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES => {
                    let mut buffer = vec![0; size];
                    all.log(
                        abi::CU_JIT_ERROR_LOG_BUFFER,
                        abi::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
                        &mut buffer,
                    );
                    all.error = Some(buffer);
                }
                // Never a pointer from the wire: the driver would write through it.
                abi::CU_JIT_INFO_LOG_BUFFER
                | abi::CU_JIT_ERROR_LOG_BUFFER
                | abi::CU_JIT_WALL_TIME
                | abi::CU_JIT_GLOBAL_SYMBOL_NAMES
                | abi::CU_JIT_GLOBAL_SYMBOL_ADDRESSES => {}
                number => all.plain(number, option.value),
            }
        }
        all
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.numbers.len()).unwrap_or(0)
    }

    /// The logs that the driver wrote, without their NUL.
    pub fn logs(self) -> (Vec<u8>, Vec<u8>) {
        let cut = |log: Option<Vec<u8>>| {
            let mut log = log.unwrap_or_default();
            let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            log.truncate(length);
            log
        };
        (cut(self.info), cut(self.error))
    }

    fn log(&mut self, buffer_option: CUjit_option, size_option: CUjit_option, buffer: &mut [u8]) {
        let place: *mut c_char = buffer.as_mut_ptr().cast();
        self.numbers.extend([buffer_option, size_option]);
        self.values.extend([place.cast(), std::ptr::without_provenance_mut(buffer.len())]);
    }

    /// Options whose value is a number, or (26 and up in newer toolkits) a pointer that must not be followed.
    fn plain(&mut self, number: CUjit_option, value: u64) {
        /// Options with plain numbers in CUDA 13.0.
        const PLAIN: [CUjit_option; 16] = [0, 1, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 20, 21, 22];
        if PLAIN.contains(&number) {
            self.numbers.push(number);
            self.values.push(std::ptr::without_provenance_mut(address(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the driver has read behind the end of the image, and where a wrapper points.
    #[test]
    fn an_image_that_leads_elsewhere_is_refused() {
        let mut fatbin = cuda_abi::fatbin::HEADER_MAGIC.to_le_bytes().to_vec();
        fatbin.extend_from_slice(&[1, 0, 16, 0]);
        fatbin.extend_from_slice(&100u64.to_le_bytes());
        assert!(leads_elsewhere(&fatbin), "100 bytes are missing");
        fatbin.extend_from_slice(&[0; 100]);
        assert!(!leads_elsewhere(&fatbin));
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        assert!(leads_elsewhere(&elf), "the header is not all there");
        elf.resize(64, 0);
        assert!(!leads_elsewhere(&elf));
        // e_shoff, e_shentsize and e_shnum: a table of sections far behind the end.
        elf[40..48].copy_from_slice(&(1u64 << 40).to_le_bytes());
        (elf[58], elf[60]) = (64, 8);
        assert!(leads_elsewhere(&elf), "its sections are elsewhere");
        let mut wrapper = WRAPPER_MAGIC.to_le_bytes().to_vec();
        wrapper.resize(24, 1);
        assert!(leads_elsewhere(&wrapper), "a pointer of the client's");
        assert!(!leads_elsewhere(b".version 7.0") && !leads_elsewhere(b"hello") && !leads_elsewhere(b""));
    }

    /// Found on the way: the driver was given the first buffer after the second one had taken its place.
    #[test]
    fn a_log_that_is_wished_for_twice_has_one_buffer() {
        let wish = |option, value| OptionValue { option, value };
        let info = abi::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES;
        let error = abi::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES;
        let mut options =
            DriverOptions::new(&[wish(info, 64), wish(error, 32), wish(info, 1 << 19), wish(error, 0)]);
        assert_eq!((options.count(), options.values.len()), (4, 4));
        let buffers = [options.info.as_mut(), options.error.as_mut()].map(|buffer| {
            let buffer = buffer.expect("a buffer");
            (buffer.as_mut_ptr().cast::<c_void>(), buffer.len())
        });
        assert_eq!(buffers, [(options.values[0], 64), (options.values[2], 32)]);
    }
}
