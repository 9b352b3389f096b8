//! The calls as a program makes them, on a machine of three GPUs that this file makes up.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;
use crate::{
    Ecc, Gpu, Library, Machine, NVML_AGGREGATE_ECC, NVML_DEVICE_ARCH_HOPPER, NVML_UUID_TYPE_ASCII,
    NVML_UUID_TYPE_BINARY, NVML_VOLATILE_ECC, Process, Refused, nvmlDevice_t, nvmlFieldValue_t, nvmlMemory_t,
    nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlProcessInfo_v1_t, nvmlProcessUtilizationSample_t,
    nvmlUUID_v1_t, nvmlUtilization_t,
};

const SUCCESS: nvmlReturn_t = nvmlReturn_t::SUCCESS;

fn machine() -> Result<Machine, Refused> {
    let gpu = |number: u32| Gpu {
        uuid: format!("GPU-0{number}0{number}0{number}0{number}-0000-0000-0000-000000000000"),
        name: format!("NVIDIA H{number}00"),
        pci: (1, 0xc0 + number, 0),
        capability: (9, 0),
        multiprocessors: 132,
        memory_total: 1000,
        memory_used: 300,
        ..Gpu::default()
    };
    let known = Gpu {
        busy: Some(61),
        temperature: Some(43),
        ecc: Some(Ecc { corrected: 7, uncorrected: 1 }),
        throttling: Some(0x20),
        mig: Some(false),
        processes: vec![
            Process { pid: 77, program: "train".into(), memory_used: 200, busy: Some(61) },
            Process { pid: 78, program: "idle".into(), memory_used: 100, busy: None },
        ],
        ..gpu(1)
    };
    Ok(Machine {
        release: Some("580.95.05".into()),
        cuda_version: 13000,
        gpus: vec![known, gpu(2), Gpu { memory_used: 2000, ..gpu(3) }],
    })
}

fn silent(_: &str) {}

fn started() -> Library {
    let library = Library::new(machine, silent, silent);
    // SAFETY: no pointers.
    assert_eq!(unsafe { nvmlInit_v2(&library) }, SUCCESS);
    library
}

fn device(library: &Library, index: u32) -> nvmlDevice_t {
    let mut device = nvmlDevice_t::NULL;
    // SAFETY: the place is a local.
    assert_eq!(unsafe { nvmlDeviceGetHandleByIndex_v2(library, index, &raw mut device) }, SUCCESS);
    device
}

/// The text that a call writes into a buffer.
fn text_of(call: impl FnOnce(*mut c_char, u32) -> nvmlReturn_t) -> Result<String, nvmlReturn_t> {
    let mut buffer = [0_u8; 96];
    match call(buffer.as_mut_ptr().cast(), 96) {
        SUCCESS => Ok(CStr::from_bytes_until_nul(&buffer).expect("an end").to_string_lossy().into_owned()),
        code => Err(code),
    }
}

/// The value that a call writes to a place.
fn value_of<T: Default>(call: impl FnOnce(*mut T) -> nvmlReturn_t) -> Result<T, nvmlReturn_t> {
    let mut value = T::default();
    match call(&raw mut value) {
        SUCCESS => Ok(value),
        code => Err(code),
    }
}

#[test]
fn nothing_is_answered_before_the_start_and_after_the_end() {
    let library = Library::new(machine, silent, silent);
    // SAFETY: places are locals.
    unsafe {
        let count = || value_of::<u32>(|place| nvmlDeviceGetCount_v2(&library, place));
        assert_eq!(count(), Err(nvmlReturn_t::UNINITIALIZED));
        assert_eq!(nvmlShutdown(&library), nvmlReturn_t::UNINITIALIZED);
        assert_eq!((nvmlInit(&library), nvmlInit_v2(&library)), (SUCCESS, SUCCESS));
        assert_eq!(nvmlShutdown(&library), SUCCESS);
        assert_eq!(count(), Ok(3), "it was initialised twice");
        assert_eq!(nvmlShutdown(&library), SUCCESS);
        assert_eq!(count(), Err(nvmlReturn_t::UNINITIALIZED));
    }
}

#[test]
fn without_gpus_the_start_fails_unless_none_are_asked_for() {
    fn refused() -> Result<Machine, Refused> {
        Err(Refused { sentence: "there is no session".into(), is_final: true })
    }
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let say: fn(&str) = |sentence| SAID.lock().expect("alone").push(sentence.to_owned());
    let library = Library::new(refused, say, silent);
    // SAFETY: places are locals.
    unsafe {
        assert_eq!(nvmlInit_v2(&library), nvmlReturn_t::DRIVER_NOT_LOADED);
        assert_eq!(*SAID.lock().expect("alone"), ["there is no session"]);
        assert_eq!(nvmlInitWithFlags(&library, 1), SUCCESS);
        assert_eq!(value_of::<u32>(|place| nvmlDeviceGetCount_v2(&library, place)), Ok(0));
    }
}

/// A driver's library that has 7 GPUs and may be asked: at first, where there are none here, or never any more.
#[derive(Debug)]
struct Other(AtomicU8);

impl Other {
    const FIRST: u8 = 0;
    const LAST: u8 = 1;
    const ANSWERS: u8 = 2;
    const NEVER: u8 = 3;

    fn change(&self, from: u8, to: u8) -> bool {
        let changed = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        changed.map_or_else(|now| now == to, |_| true)
    }
}

unsafe extern "C" fn start_of_the_other() -> nvmlReturn_t {
    SUCCESS
}

unsafe extern "C" fn count_of_the_other(place: *mut u32) -> nvmlReturn_t {
    // SAFETY: tests pass a local.
    unsafe { place.write(7) };
    SUCCESS
}

impl crate::Aside for Other {
    fn look(&self, _: &CStr) {
        self.change(Self::FIRST, Self::ANSWERS);
    }

    fn give_way(&self) -> bool {
        self.change(Self::LAST, Self::ANSWERS)
    }

    fn stay(&self) -> bool {
        self.change(Self::LAST, Self::NEVER)
    }

    fn find(&self, name: &CStr) -> Option<NonNull<c_void>> {
        let function: *mut c_void = match name.to_bytes() {
            b"nvmlDeviceGetCount_v2" => count_of_the_other as *mut c_void,
            _ => start_of_the_other as *mut c_void,
        };
        NonNull::new(function).filter(|_| self.0.load(Ordering::Relaxed) == Self::ANSWERS)
    }
}

#[test]
fn what_belongs_to_another_library_is_answered_there_and_what_began_here_is_not() {
    static REFUSES: Mutex<bool> = Mutex::new(false);
    fn source() -> Result<Machine, Refused> {
        let refused = Refused { sentence: "there is no session".into(), is_final: true };
        if *REFUSES.lock().expect("alone") { Err(refused) } else { machine() }
    }
    let count = |library: &Library| {
        // SAFETY: the place is a local.
        value_of::<u32>(|place| unsafe { nvmlDeviceGetCount_v2(library, place) })
    };
    static LOCAL: Other = Other(AtomicU8::new(Other::FIRST));
    let library = Library::new(source, silent, silent).beside(&LOCAL);
    assert_eq!(count(&library), Ok(7), "the first call counts, whichever it is");

    static LATE: Other = Other(AtomicU8::new(Other::LAST));
    static LATER: Other = Other(AtomicU8::new(Other::LAST));
    static NEVER: Other = Other(AtomicU8::new(Other::LAST));
    let stays = Library::new(source, silent, silent).beside(&NEVER);
    // SAFETY: no pointers.
    unsafe {
        assert_eq!((nvmlInit_v2(&stays), count(&stays)), (SUCCESS, Ok(3)));
        *REFUSES.lock().expect("alone") = true;
        assert_eq!((nvmlInit_v2(&stays), count(&stays)), (nvmlReturn_t::DRIVER_NOT_LOADED, Ok(3)));
        let say: fn(&str) = |sentence| panic!("nothing is to be said: {sentence}");
        for other in [&LATE, &LATER] {
            let library = Library::new(source, say, silent).beside(other);
            assert_eq!(count(&library), Err(nvmlReturn_t::UNINITIALIZED));
            // It succeeds there, also where the start here would have had no GPUs.
            let started = if std::ptr::eq(other, &LATE) {
                nvmlInit_v2(&library)
            } else {
                nvmlInitWithFlags(&library, 1)
            };
            assert_eq!((started, count(&library)), (SUCCESS, Ok(7)));
        }
    }
}

#[test]
fn a_gpu_is_found_by_everything_that_names_it() {
    let library = started();
    let second = device(&library, 1);
    let found =
        |code: nvmlReturn_t, device: nvmlDevice_t| if code == SUCCESS { Ok(device) } else { Err(code) };
    let mut place = nvmlDevice_t::NULL;
    // SAFETY: places are locals, texts are terminated.
    unsafe {
        for name in [c"0001:C2:00.0", c"00000001:c2:00.0"] {
            let code = nvmlDeviceGetHandleByPciBusId_v2(&library, name.as_ptr(), &raw mut place);
            assert_eq!(found(code, place), Ok(second), "{name:?}");
        }
        let uuid = c"gpu-02020202-0000-0000-0000-000000000000";
        let code = nvmlDeviceGetHandleByUUID(&library, uuid.as_ptr(), &raw mut place);
        assert_eq!(found(code, place), Ok(second));
        let code = nvmlDeviceGetHandleByUUID(&library, c"GPU-02".as_ptr(), &raw mut place);
        assert_eq!(code, nvmlReturn_t::NOT_FOUND, "a beginning names nothing");
        let code = nvmlDeviceGetHandleByPciBusId_v2(&library, c"c2:00".as_ptr(), &raw mut place);
        assert_eq!(code, nvmlReturn_t::NOT_FOUND, "it is in domain 1");
        let code = nvmlDeviceGetHandleByUUID(&library, std::ptr::null(), &raw mut place);
        assert_eq!(code, nvmlReturn_t::INVALID_ARGUMENT);
        let code = nvmlDeviceGetHandleByIndex_v2(&library, 3, &raw mut place);
        assert_eq!(code, nvmlReturn_t::INVALID_ARGUMENT);

        let mut value = [0; 41];
        value[..4].fill(2);
        let mut wanted =
            nvmlUUID_v1_t { version: version_of::<nvmlUUID_v1_t>(1), r#type: NVML_UUID_TYPE_BINARY, value };
        let code = nvmlDeviceGetHandleByUUIDV(&library, &raw const wanted, &raw mut place);
        assert_eq!(found(code, place), Ok(second));
        wanted.r#type = NVML_UUID_TYPE_ASCII;
        wanted.value = fill("GPU-02020202-0000-0000-0000-000000000000");
        let code = nvmlDeviceGetHandleByUUIDV(&library, &raw const wanted, &raw mut place);
        assert_eq!(found(code, place), Ok(second));
        wanted.version = 1;
        let code = nvmlDeviceGetHandleByUUIDV(&library, &raw const wanted, &raw mut place);
        assert_eq!(code, nvmlReturn_t::ARGUMENT_VERSION_MISMATCH);
    }
}

#[test]
fn handles_that_never_were_ones_are_refused() {
    let library = started();
    for wrong in [
        nvmlDevice_t::NULL,
        nvmlDevice_t(1),
        nvmlDevice_t(usize::MAX),
        nvmlDevice_t(device(&library, 0).0 + 3),
    ] {
        // SAFETY: the place is a local.
        let answer = value_of::<u32>(|place| unsafe { nvmlDeviceGetIndex(&library, wrong, place) });
        assert_eq!(answer, Err(nvmlReturn_t::INVALID_ARGUMENT), "{wrong:?}");
    }
}

#[test]
fn what_stays_the_same_is_spelled_as_nvml_spells_it() {
    let library = started();
    let first = device(&library, 0);
    // SAFETY: places are locals.
    unsafe {
        assert_eq!(
            text_of(|place, room| nvmlDeviceGetName(&library, first, place, room)),
            Ok("NVIDIA H100".into())
        );
        assert_eq!(
            text_of(|place, _| nvmlDeviceGetName(&library, first, place, 11)),
            Err(nvmlReturn_t::INSUFFICIENT_SIZE)
        );
        assert_eq!(
            text_of(|place, room| nvmlDeviceGetUUID(&library, first, place, room)),
            Ok("GPU-01010101-0000-0000-0000-000000000000".into())
        );
        let driver = text_of(|place, room| nvmlSystemGetDriverVersion(&library, place, room));
        assert_eq!(driver, Ok("580.95.05".into()));
        let nvml = text_of(|place, room| nvmlSystemGetNVMLVersion(&library, place, room));
        assert_eq!(nvml, Ok("13.580.95.05".into()));
        assert_eq!(value_of(|place| nvmlSystemGetCudaDriverVersion_v2(&library, place)), Ok(13000));
        assert_eq!(
            value_of(|place| nvmlDeviceGetArchitecture(&library, first, place)),
            Ok(NVML_DEVICE_ARCH_HOPPER)
        );
        assert_eq!(value_of(|place| nvmlDeviceGetNumGpuCores(&library, first, place)), Ok(132 * 128));

        let mut pci = [0xaa_u8; 68];
        let place = pci.as_mut_ptr().cast::<nvmlPciInfo_t>();
        assert_eq!(nvmlDeviceGetPciInfo(&library, first, place), SUCCESS);
        assert!(pci[32..].iter().all(|byte| *byte == 0xaa), "the first version's structure is shorter");
        let place = pci.as_mut_ptr().cast::<nvmlPciInfo_t>();
        assert_eq!(nvmlDeviceGetPciInfo_v3(&library, first, place), SUCCESS);
        let spelled =
            |bytes: &[u8]| CStr::from_bytes_until_nul(bytes).expect("an end").to_string_lossy().into_owned();
        assert_eq!(
            (spelled(&pci[..16]), spelled(&pci[36..])),
            ("0001:C1:00.0".into(), "00000001:C1:00.0".into())
        );
    }
}

#[test]
fn memory_never_says_that_more_is_used_than_there_is() {
    let library = started();
    // SAFETY: places are locals.
    unsafe {
        for (index, used) in [(0, 300), (2, 1000)] {
            let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
            assert_eq!(nvmlDeviceGetMemoryInfo(&library, device(&library, index), &raw mut memory), SUCCESS);
            assert_eq!((memory.total, memory.free, memory.used), (1000, 1000 - used, used));
        }
        let mut memory = nvmlMemory_v2_t {
            version: version_of::<nvmlMemory_v2_t>(2),
            total: 0,
            reserved: 9,
            free: 0,
            used: 0,
        };
        assert_eq!(memory.version, 0x0200_0028, "as NVML's macro has it");
        let first = device(&library, 0);
        assert_eq!(nvmlDeviceGetMemoryInfo_v2(&library, first, &raw mut memory), SUCCESS);
        assert_eq!((memory.total, memory.reserved, memory.free, memory.used), (1000, 0, 700, 300));
        memory.version = 1;
        let code = nvmlDeviceGetMemoryInfo_v2(&library, first, &raw mut memory);
        assert_eq!(code, nvmlReturn_t::ARGUMENT_VERSION_MISMATCH);
    }
}

#[test]
fn what_nobody_tells_is_not_supported() {
    let library = started();
    let (known, unknown) = (device(&library, 0), device(&library, 1));
    // SAFETY: places are locals.
    unsafe {
        let temperature =
            |device| value_of::<u32>(|place| nvmlDeviceGetTemperature(&library, device, 0, place));
        assert_eq!((temperature(known), temperature(unknown)), (Ok(43), Err(nvmlReturn_t::NOT_SUPPORTED)));
        let mut busy = nvmlUtilization_t { gpu: 0, memory: 0 };
        assert_eq!(nvmlDeviceGetUtilizationRates(&library, known, &raw mut busy), SUCCESS);
        assert_eq!(busy.gpu, 61);
        let code = nvmlDeviceGetUtilizationRates(&library, unknown, &raw mut busy);
        assert_eq!(code, nvmlReturn_t::NOT_SUPPORTED);
        let errors = |device, kind, counter| {
            value_of::<u64>(|place| nvmlDeviceGetTotalEccErrors(&library, device, kind, counter, place))
        };
        assert_eq!(
            (errors(known, 0, NVML_VOLATILE_ECC), errors(known, 1, NVML_VOLATILE_ECC)),
            (Ok(7), Ok(1))
        );
        assert_eq!(errors(known, 0, NVML_AGGREGATE_ECC), Err(nvmlReturn_t::NOT_SUPPORTED));
        assert_eq!(errors(unknown, 0, NVML_VOLATILE_ECC), Err(nvmlReturn_t::NOT_SUPPORTED));
        let reasons = value_of::<u64>(|place| nvmlDeviceGetCurrentClocksEventReasons(&library, known, place));
        assert_eq!(reasons, Ok(0x20));
        let mut field = nvmlFieldValue_t {
            fieldId: 1,
            scopeId: 0,
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            nvmlReturn: SUCCESS,
            value: 0,
        };
        assert_eq!(nvmlDeviceGetFieldValues(&library, known, 1, &raw mut field), SUCCESS);
        assert_eq!(field.nvmlReturn, nvmlReturn_t::NOT_SUPPORTED);
    }
}

#[test]
fn processes_are_listed_in_the_structures_of_all_versions() {
    let library = started();
    let first = device(&library, 0);
    // SAFETY: arrays have the length that is passed along.
    unsafe {
        let mut count = 0;
        let code =
            nvmlDeviceGetComputeRunningProcesses_v3(&library, first, &raw mut count, std::ptr::null_mut());
        assert_eq!((code, count), (nvmlReturn_t::INSUFFICIENT_SIZE, 2));
        let mut list =
            [nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 }; 4];
        count = 4;
        let code =
            nvmlDeviceGetComputeRunningProcesses_v3(&library, first, &raw mut count, list.as_mut_ptr());
        assert_eq!((code, count, list[0].pid, list[1].usedGpuMemory), (SUCCESS, 2, 77, 100));
        assert_eq!(list[0].gpuInstanceId, u32::MAX);
        let mut old = [nvmlProcessInfo_v1_t { pid: 0, usedGpuMemory: 0 }; 2];
        let code = nvmlDeviceGetComputeRunningProcesses(&library, first, &raw mut count, old.as_mut_ptr());
        assert_eq!((code, old[1].pid, old[0].usedGpuMemory), (SUCCESS, 78, 200));
        count = 4;
        let code =
            nvmlDeviceGetGraphicsRunningProcesses_v3(&library, first, &raw mut count, list.as_mut_ptr());
        assert_eq!((code, count), (SUCCESS, 0));
        let mut samples = [std::mem::zeroed::<nvmlProcessUtilizationSample_t>(); 2];
        count = 2;
        let code = nvmlDeviceGetProcessUtilization(&library, first, samples.as_mut_ptr(), &raw mut count, 0);
        assert_eq!((code, count, samples[0].pid, samples[0].smUtil), (SUCCESS, 1, 77, 61));
        let name = text_of(|place, room| nvmlSystemGetProcessName(&library, u32::MAX, place, room));
        assert_eq!(name, Err(nvmlReturn_t::NOT_FOUND), "no process of the session");
    }
}

#[test]
fn the_private_tables_are_refused_and_the_place_for_them_is_empty() {
    let library = started();
    let mut table: *const std::ffi::c_void = std::ptr::without_provenance(1);
    let uuid = [0_u8; 16];
    // SAFETY: both places are locals.
    let code = unsafe { nvmlInternalGetExportTable(&library, &raw mut table, uuid.as_ptr().cast()) };
    assert_eq!((code, table.is_null()), (nvmlReturn_t::NOT_SUPPORTED, true));
}

#[test]
fn errors_have_words_and_unknown_ones_too() {
    let library = Library::new(machine, silent, silent);
    // SAFETY: the texts are constants.
    let words = |code| unsafe { CStr::from_ptr(nvmlErrorString(&library, nvmlReturn_t(code))) };
    assert_eq!((words(0), words(3), words(12345)), (c"Success", c"Not Supported", c"Unknown Error"));
}

#[test]
fn what_is_not_supported_is_noted_once_by_name_and_not_said_to_anybody() {
    static NOTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    fn unwanted(sentence: &str) {
        unreachable!("{sentence}");
    }
    let note: fn(&str) = |sentence| NOTED.lock().expect("alone").push(sentence.to_owned());
    let library = Library::new(machine, unwanted, note);
    for _ in 0..3 {
        assert_eq!(library.unsupported("nvmlDeviceSetFanSpeed_v2"), nvmlReturn_t::NOT_SUPPORTED);
    }
    assert_eq!(*NOTED.lock().expect("alone"), ["nvmlDeviceSetFanSpeed_v2 is not supported by Farpool"]);
}

#[test]
fn a_session_that_ends_loses_its_gpus_and_a_broker_that_is_away_does_not() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    fn source() -> Result<Machine, Refused> {
        match LOOKS.fetch_add(1, Ordering::Relaxed) {
            0 => machine(),
            1 => Err(Refused { sentence: "away".into(), is_final: false }),
            2 => Err(Refused { sentence: "ended".into(), is_final: true }),
            // Another GPU took the place.
            _ => machine().map(|mut machine| {
                machine.gpus.swap(0, 1);
                machine
            }),
        }
    }
    let library = Library::new(source, silent, silent);
    // SAFETY: places are locals.
    unsafe {
        assert_eq!(nvmlInit_v2(&library), SUCCESS);
        let first = device(&library, 0);
        let mut answers = Vec::new();
        for _ in 0..3 {
            library.forget_when();
            answers.push(value_of::<u32>(|place| nvmlDeviceGetTemperature(&library, first, 0, place)));
        }
        let lost = Err(nvmlReturn_t::GPU_IS_LOST);
        assert_eq!(answers, [Err(nvmlReturn_t::UNKNOWN), lost, lost]);
    }
}
