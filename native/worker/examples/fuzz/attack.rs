//! What a hostile client could do once: tried again before anything else is.

use wire::cuda;
use wire::handle::{Context, Handle as _, Module, Stream};
use wire::handshake::{Hello, Window};
use wire::record::encode_record;
use wire::{Request, Writer};

use crate::case::Case;

/// `CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES`
const INFO_LOG_BYTES: i32 = 4;

/// Records that are being written.
struct Script {
    name: &'static str,
    control: Vec<u8>,
    records: u64,
    context: u32,
}

impl Script {
    fn new(name: &'static str) -> Script {
        let script = Script { name, control: Vec::new(), records: 0, context: 0 };
        let window = Window { start: 1 << 46, length: 64 << 30 };
        script.ask(&Hello { pid: 1, program: "attack".into(), driver_version: 13_000, window })
    }

    /// The next record; its answer is wanted.
    fn ask<'a, R: Request<'a>>(mut self, request: &R) -> Script {
        self.records += 1;
        let write = |writer: &mut Writer<'_>| request.encode(writer);
        encode_record(&mut self.control, R::CALL, 1, self.context, self.records, write);
        self
    }

    fn inside(mut self, context: u32) -> Script {
        self.context = context;
        self
    }

    fn retain(self, index: u64) -> Script {
        self.ask(&cuda::CuDevicePrimaryCtxRetain { context: Context::from_index(index), device: 0 })
    }

    fn create(self, index: u64) -> Script {
        self.ask(&cuda::CuCtxCreateV2 { context: Context::from_index(index), flags: 0, device: 0 })
    }

    fn destroy(self, index: u64) -> Script {
        self.ask(&cuda::CuCtxDestroyV2 { context: Context::from_index(index) })
    }

    /// Calls that need a context that is alive.
    fn work(self) -> Script {
        let stream = Stream::from_index(self.records);
        self.ask(&cuda::CuMemAllocV2 { size: 32 << 20 })
            .ask(&cuda::CuStreamCreate { phStream: stream, Flags: 0 })
            .ask(&cuda::CuCtxSynchronize {})
            .ask(&cuda::CuMemGetInfoV2 {})
    }

    fn load(self, image: &[u8], options: Vec<cuda::OptionValue>) -> Script {
        let module = Module::from_index(self.records);
        self.ask(&cuda::CuModuleLoadDataEx { module, blob: 0, image, options })
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let wrapper = [0x4662_43b1_u64 | 1 << 32, 0x1_0000, 0].map(u64::to_le_bytes).concat();
    let fatbin = [0xba55_ed50_u64 | 0x10_0001 << 32, 1 << 31].map(u64::to_le_bytes).concat();
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf[40..48].copy_from_slice(&(1_u64 << 31).to_le_bytes());
    (elf[58], elf[60]) = (64, 8);
    let log = |value| cuda::OptionValue { option: INFO_LOG_BYTES, value };
    let nonsense = b".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry k() { nonsense; }\n";
    let mut unasked = Script::new("answers that nobody asked for");
    let data = vec![1; 1 << 20];
    for token in 0..400 {
        unasked = unasked.ask(&cuda::FarpoolCallbackDone { token, data: &data });
    }
    let scripts = [
        Script::new("a primary context with two names, and its reset")
            .retain(1)
            .retain(2)
            .ask(&cuda::CuDevicePrimaryCtxResetV2 { device: 0 })
            .inside(2)
            .work(),
        Script::new("two contexts with one index")
            .create(1)
            .create(1 << 32 | 1)
            .destroy(1 << 32 | 1)
            .inside(1)
            .work(),
        Script::new("a context with index 0").create(0).work().destroy(0).work(),
        Script::new("a primary context that is destroyed")
            .retain(1)
            .inside(1)
            .work()
            .destroy(1)
            .retain(2)
            .work(),
        Script::new("a stream that is watched from another context than its own, which ends")
            .create(1)
            .create(2)
            .inside(2)
            .ask(&cuda::CuStreamCreate { phStream: Stream::from_index(7), Flags: 1 })
            .inside(1)
            .ask(&cuda::FarpoolWatch { stream: Stream::from_index(7), number: 1 << 40 })
            .destroy(2)
            .work()
            .work(),
        Script::new("a wrapper with a pointer").retain(1).inside(1).load(&wrapper, Vec::new()),
        Script::new("a fatbin that says it is longer").retain(1).inside(1).load(&fatbin, Vec::new()),
        Script::new("an ELF file whose sections are elsewhere").retain(1).inside(1).load(&elf, Vec::new()),
        Script::new("a log that is wished for twice")
            .retain(1)
            .inside(1)
            .load(nonsense, vec![log(64), log(1 << 19), log(32)]),
        unasked,
    ];
    scripts.into_iter().map(|script| Case::of_attack(script.name, script.control, script.records)).collect()
}
