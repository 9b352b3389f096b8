//! What nodes of graphs do.

use std::ffi::c_void;
use std::sync::Arc;

use ::graph::{Names, NodeAction};
use cuda_abi as abi;
use cuda_abi::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext,
    CUfunction, CUgraphNodeType, CUkernel, CUmemorytype, CUresult,
};
use wire::cuda::LaunchAttribute;
use wire::handle::{Context, Event, Handle, Kernel};

use crate::client::Client;
use crate::convert::opaque;
use crate::entry::Answer;
use crate::graph::Graph;
use crate::graph::memory::GraphMemory;
use crate::launch::Geometry;
use crate::module::Code;
use crate::rectangle::{Copy3d, Place, Side};
use crate::{hooks, servers};

/// What a node does.
#[derive(Debug)]
pub enum Action {
    /// Nothing: a place in the order.
    Empty,
    /// A launch.
    Kernel(KernelCall),
    /// A copy, in this context.
    Copy(Copy3d, Context),
    /// A memset.
    Fill(Filling),
    /// A function of the program.
    Host(HostCall),
    /// A graph in the place of the node.
    Child(Arc<Graph>),
    /// Waits for an event from outside.
    Wait(Event),
    /// Records an event.
    Record(Event),
    /// Allocates memory whose address is fixed.
    Allocate(Arc<GraphMemory>),
    /// Frees it.
    Free(u64),
}

/// All graphs and nodes of this process.
pub static NAMES: Names<Action> = Names::new();

impl Action {
    /// Which of the session's servers it is on, if it names one.
    pub fn server(&self) -> Option<usize> {
        match self {
            Self::Kernel(call) => Some(servers::of_context(call.context)),
            Self::Copy(_, context) => Some(servers::of_context(*context)),
            Self::Fill(filling) => Some(servers::of_context(filling.context)),
            Self::Wait(event) | Self::Record(event) => servers::of_handle(event.raw()),
            Self::Allocate(memory) => servers::of_address(memory.address()),
            Self::Free(address) => servers::of_address(*address),
            Self::Empty | Self::Host(_) | Self::Child(_) => None,
        }
    }

    /// Whether a kernel would run in another context from now on, which no executable graph allows.
    pub fn moves_to(&self, new: &Self) -> bool {
        matches!((self, new), (Self::Kernel(old), Self::Kernel(new)) if old.context != new.context)
    }
}

impl NodeAction for Action {
    fn kind(&self) -> CUgraphNodeType {
        match self {
            Self::Empty => abi::CU_GRAPH_NODE_TYPE_EMPTY,
            Self::Kernel(_) => abi::CU_GRAPH_NODE_TYPE_KERNEL,
            Self::Copy(..) => abi::CU_GRAPH_NODE_TYPE_MEMCPY,
            Self::Fill(_) => abi::CU_GRAPH_NODE_TYPE_MEMSET,
            Self::Host(_) => abi::CU_GRAPH_NODE_TYPE_HOST,
            Self::Child(_) => abi::CU_GRAPH_NODE_TYPE_GRAPH,
            Self::Wait(_) => abi::CU_GRAPH_NODE_TYPE_WAIT_EVENT,
            Self::Record(_) => abi::CU_GRAPH_NODE_TYPE_EVENT_RECORD,
            Self::Allocate(_) => abi::CU_GRAPH_NODE_TYPE_MEM_ALLOC,
            Self::Free(_) => abi::CU_GRAPH_NODE_TYPE_MEM_FREE,
        }
    }

    fn duplicate(&self) -> Answer<Self> {
        Ok(match self {
            Self::Empty => Self::Empty,
            Self::Kernel(call) => Self::Kernel(call.with_attributes(call.attributes.clone())),
            Self::Copy(copy, context) => Self::Copy(*copy, *context),
            Self::Fill(filling) => Self::Fill(*filling),
            Self::Host(call) => Self::Host(*call),
            Self::Child(graph) => Self::Child(graph.duplicate()?),
            Self::Wait(event) => Self::Wait(*event),
            Self::Record(event) => Self::Record(*event),
            Self::Allocate(_) | Self::Free(_) => return Err(CUresult::NOT_SUPPORTED),
        })
    }

    fn child(&self) -> Option<&Arc<Graph>> {
        match self {
            Self::Child(graph) => Some(graph),
            _ => None,
        }
    }

    fn names() -> &'static Names<Self> {
        &NAMES
    }
}

/// A launch with the node's own copy of the parameters.
#[derive(Debug)]
pub struct KernelCall {
    /// The function or kernel.
    pub function: u64,
    /// What is known about it.
    pub code: Arc<Code>,
    /// The context that it runs in.
    pub context: Context,
    /// Its shape.
    pub geometry: Geometry,
    /// Further attributes.
    pub attributes: Vec<LaunchAttribute>,
    packed: Vec<u8>,
    /// Addresses in `packed`, one per parameter.
    pointers: Vec<usize>,
}

impl KernelCall {
    /// From packed parameters.
    pub fn new(
        (function, code): (u64, Arc<Code>),
        context: Context,
        geometry: Geometry,
        attributes: Vec<LaunchAttribute>,
        packed: Vec<u8>,
    ) -> Self {
        let base = packed.as_ptr().expose_provenance();
        let offset = |offset: u64| usize::try_from(offset).unwrap_or(0);
        let pointers = code.parameters.iter().map(|parameter| base + offset(parameter.offset)).collect();
        Self { function, code, context, geometry, attributes, packed, pointers }
    }

    /// The same with other attributes.
    pub fn with_attributes(&self, attributes: Vec<LaunchAttribute>) -> Self {
        let code = (self.function, Arc::clone(&self.code));
        Self::new(code, self.context, self.geometry, attributes, self.packed.clone())
    }

    /// The packed parameters.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The node's parameters; those of the kernel live as long as this.
    pub fn parameters(&self) -> CUDA_KERNEL_NODE_PARAMS {
        let (grid, block) = (self.geometry.grid, self.geometry.block);
        let raw = usize::try_from(self.function).unwrap_or(0);
        let is_kernel = Kernel::from_raw(self.function).has_kind();
        CUDA_KERNEL_NODE_PARAMS {
            func: CUfunction(raw),
            gridDimX: grid[0],
            gridDimY: grid[1],
            gridDimZ: grid[2],
            blockDimX: block[0],
            blockDimY: block[1],
            blockDimZ: block[2],
            sharedMemBytes: self.geometry.shared_bytes,
            kernelParams: self.pointers.as_ptr().cast_mut().cast(),
            extra: std::ptr::null_mut(),
            kern: if is_kernel { CUkernel(raw) } else { CUkernel::NULL },
            ctx: opaque::<CUcontext>(self.context),
        }
    }
}

/// A function of the program.
#[derive(Debug, Clone, Copy)]
pub struct HostCall {
    /// The function.
    pub function: unsafe extern "C" fn(*mut c_void),
    /// What it is given.
    pub data: *mut c_void,
}

// SAFETY: the program hands the pointer over for its own function, which CUDA calls on another thread by contract.
unsafe impl Send for HostCall {}
// SAFETY: as above; nothing here follows the pointer.
unsafe impl Sync for HostCall {}

impl HostCall {
    /// From a node's parameters.
    ///
    /// Errors: `INVALID_VALUE` without a function.
    pub fn new(given: &CUDA_HOST_NODE_PARAMS) -> Answer<Self> {
        Ok(Self { function: given.r#fn.ok_or(CUresult::INVALID_VALUE)?, data: given.userData })
    }

    /// The node's parameters.
    pub fn parameters(&self) -> CUDA_HOST_NODE_PARAMS {
        CUDA_HOST_NODE_PARAMS { r#fn: Some(self.function), userData: self.data }
    }
}

/// A memset.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// First byte.
    pub address: u64,
    /// Bytes from row to row.
    pub pitch: u64,
    /// The element's value.
    pub value: u32,
    /// Bytes of an element.
    pub element: u32,
    /// Elements of a row.
    pub width: u64,
    /// Rows.
    pub height: u64,
    /// The context that it runs in.
    pub context: Context,
}

impl Filling {
    /// From a node's parameters, checked.
    ///
    /// Errors: `INVALID_VALUE` for element sizes that do not exist and for what is not memory of a device.
    pub fn new(client: &Client, given: &CUDA_MEMSET_NODE_PARAMS, context: Context) -> Answer<Self> {
        if !matches!(given.elementSize, 1 | 2 | 4) || given.width == 0 || given.height == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let element = u64::from(given.elementSize);
        hooks::fill_rows(client, given.dst, given.pitch, given.width, given.height, element)?;
        Ok(Self {
            address: given.dst,
            pitch: given.pitch as u64,
            value: match given.elementSize {
                1 => given.value & 0xff,
                2 => given.value & 0xffff,
                _ => given.value,
            },
            element: given.elementSize,
            width: given.width as u64,
            height: given.height as u64,
            context,
        })
    }

    /// The node's parameters.
    pub fn parameters(&self) -> CUDA_MEMSET_NODE_PARAMS {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        CUDA_MEMSET_NODE_PARAMS {
            dst: self.address,
            pitch: number(self.pitch),
            value: self.value,
            elementSize: self.element,
            width: number(self.width),
            height: number(self.height),
        }
    }
}

/// A copy of a row of bytes.
pub fn linear(destination: Place, source: Place, length: usize) -> Copy3d {
    let side = |place| Side { place, pitch: length, height: 1, x: 0, y: 0, z: 0 };
    Copy3d { source: side(source), destination: side(destination), width: length, height: 1, depth: 1 }
}

/// The parameters of a copy node.
pub fn copy_parameters(copy: &Copy3d) -> CUDA_MEMCPY3D {
    let kind = |side: &Side| -> CUmemorytype {
        match side.place {
            Place::Host(_) => abi::CU_MEMORYTYPE_HOST,
            Place::Device(_) => abi::CU_MEMORYTYPE_DEVICE,
        }
    };
    let host = |side: &Side| match side.place {
        Place::Host(address) => address.cast::<c_void>(),
        Place::Device(_) => std::ptr::null_mut(),
    };
    let device = |side: &Side| match side.place {
        Place::Host(_) => 0,
        Place::Device(address) => address,
    };
    let (from, to) = (&copy.source, &copy.destination);
    CUDA_MEMCPY3D {
        srcXInBytes: from.x,
        srcY: from.y,
        srcZ: from.z,
        srcLOD: 0,
        srcMemoryType: kind(from),
        srcHost: host(from),
        srcDevice: device(from),
        srcArray: abi::CUarray::NULL,
        reserved0: std::ptr::null_mut(),
        srcPitch: from.pitch,
        srcHeight: from.height,
        dstXInBytes: to.x,
        dstY: to.y,
        dstZ: to.z,
        dstLOD: 0,
        dstMemoryType: kind(to),
        dstHost: host(to),
        dstDevice: device(to),
        dstArray: abi::CUarray::NULL,
        reserved1: std::ptr::null_mut(),
        dstPitch: to.pitch,
        dstHeight: to.height,
        WidthInBytes: copy.width,
        Height: copy.height,
        Depth: copy.depth,
    }
}
