//! What nodes of graphs do.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi::{
    CU_GRAPH_NODE_TYPE_EMPTY, CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_GRAPH,
    CU_GRAPH_NODE_TYPE_HOST, CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_MEM_ALLOC,
    CU_GRAPH_NODE_TYPE_MEM_FREE, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET,
    CU_GRAPH_NODE_TYPE_WAIT_EVENT, CUDA_HOST_NODE_PARAMS, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS,
    CUgraphNodeType, CUresult,
};

use crate::context::Context;
use crate::copy::{End, Extent, Filling, Side, Transfer, Value};
use crate::event::Event;
use graph::{Names, NodeAction};

use crate::graph::Graph;
use crate::graph::memory::GraphMemory;
use crate::guard::{Answer, in_host_function};
use crate::launch::{self, Shape};
use crate::module::Function;

/// What a node does.
pub enum Action {
    Empty,
    Kernel(KernelCall),
    Copy(Transfer),
    Fill(Filling),
    Host(HostCall),
    Child(Arc<Graph>),
    Wait(Arc<Event>),
    Record(Arc<Event>),
    Allocate(Arc<GraphMemory>),
    Free(u64),
}

/// All graphs and nodes of this process.
pub static NAMES: Names<Action> = Names::new();

impl NodeAction for Action {
    fn kind(&self) -> CUgraphNodeType {
        match self {
            Self::Empty => CU_GRAPH_NODE_TYPE_EMPTY,
            Self::Kernel(_) => CU_GRAPH_NODE_TYPE_KERNEL,
            Self::Copy(_) => CU_GRAPH_NODE_TYPE_MEMCPY,
            Self::Fill(_) => CU_GRAPH_NODE_TYPE_MEMSET,
            Self::Host(_) => CU_GRAPH_NODE_TYPE_HOST,
            Self::Child(_) => CU_GRAPH_NODE_TYPE_GRAPH,
            Self::Wait(_) => CU_GRAPH_NODE_TYPE_WAIT_EVENT,
            Self::Record(_) => CU_GRAPH_NODE_TYPE_EVENT_RECORD,
            Self::Allocate(_) => CU_GRAPH_NODE_TYPE_MEM_ALLOC,
            Self::Free(_) => CU_GRAPH_NODE_TYPE_MEM_FREE,
        }
    }

    fn duplicate(&self) -> Answer<Self> {
        Ok(match self {
            Self::Empty => Self::Empty,
            Self::Kernel(call) => Self::Kernel(call.with_shape(call.shape)),
            Self::Copy(transfer) => Self::Copy(*transfer),
            Self::Fill(filling) => Self::Fill(*filling),
            Self::Host(call) => Self::Host(*call),
            Self::Child(graph) => Self::Child(graph.duplicate()?),
            Self::Wait(event) => Self::Wait(Arc::clone(event)),
            Self::Record(event) => Self::Record(Arc::clone(event)),
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

impl Action {
    /// Whether a kernel would run in another context from now on, which no executable graph allows.
    pub fn moves_to(&self, new: &Self) -> bool {
        matches!((self, new), (Self::Kernel(old), Self::Kernel(new)) if old.function.context_id() != new.function.context_id())
    }

    /// Does it, where it is something that a context does.
    ///
    /// # Errors
    /// The error that ends the context.
    pub fn perform(&self, context: &Arc<Context>) -> Answer {
        match self {
            Self::Kernel(call) => launch::run(context, &call.function, &call.shape, &call.packed),
            Self::Copy(transfer) => transfer.perform(),
            Self::Fill(filling) => filling.perform(),
            Self::Allocate(memory) => {
                memory.renew();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A launch with the node's own copy of the parameters.
pub struct KernelCall {
    pub function: Arc<Function>,
    /// The `CUfunction` or `CUkernel` that the program gave.
    pub handle: usize,
    pub shape: Shape,
    packed: Vec<u8>,
    /// Addresses in `packed`, one per parameter.
    pointers: Vec<usize>,
}

impl KernelCall {
    /// From packed parameters.
    ///
    /// # Errors
    /// NOT_SUPPORTED where the kernel is.
    pub fn new(function: Arc<Function>, handle: usize, shape: Shape, packed: Vec<u8>) -> Answer<Self> {
        let base = packed.as_ptr().expose_provenance();
        let pointers = function.kernel()?.params.iter().map(|param| base + param.offset as usize).collect();
        Ok(Self { function, handle, shape, packed, pointers })
    }

    /// The same with another shape.
    pub fn with_shape(&self, shape: Shape) -> Self {
        let packed = self.packed.clone();
        let (old, new) = (self.packed.as_ptr().addr(), packed.as_ptr().expose_provenance());
        let pointers = self.pointers.iter().map(|pointer| pointer - old + new).collect();
        Self { function: Arc::clone(&self.function), handle: self.handle, shape, packed, pointers }
    }

    /// The parameters as `cuLaunchKernel` takes them; they live as long as this.
    pub fn parameters(&self) -> *mut *mut c_void {
        self.pointers.as_ptr().cast_mut().cast()
    }
}

/// A function of the program.
#[derive(Clone, Copy)]
pub struct HostCall {
    function: unsafe extern "C" fn(*mut c_void),
    data: *mut c_void,
}

// SAFETY: the program hands the pointer over for its own function, which CUDA calls on another thread by contract.
unsafe impl Send for HostCall {}
// SAFETY: as above; nothing here follows the pointer.
unsafe impl Sync for HostCall {}

impl HostCall {
    /// From a node's parameters.
    ///
    /// # Errors
    /// INVALID_VALUE without a function.
    pub fn new(given: &CUDA_HOST_NODE_PARAMS) -> Answer<Self> {
        Ok(Self { function: given.r#fn.ok_or(CUresult::INVALID_VALUE)?, data: given.userData })
    }

    /// The node's parameters.
    pub fn parameters(&self) -> CUDA_HOST_NODE_PARAMS {
        CUDA_HOST_NODE_PARAMS { r#fn: Some(self.function), userData: self.data }
    }

    /// Calls it.
    pub fn call(&self) {
        // SAFETY: the program gave function and pointer for this call.
        in_host_function(|| unsafe { (self.function)(self.data) });
    }
}

/// The request that describes a copy.
pub fn copy_parameters(transfer: &Transfer) -> CUDA_MEMCPY3D {
    let side = |side| match side {
        Side::Host => cuda_abi::CU_MEMORYTYPE_HOST,
        Side::Device => cuda_abi::CU_MEMORYTYPE_DEVICE,
        Side::Unified => cuda_abi::CU_MEMORYTYPE_UNIFIED,
    };
    let Extent { width, rows, slices } = transfer.extent;
    let pitch = |end: &End| if end.pitch == 0 { width } else { end.pitch };
    let height = |end: &End| if end.slice == 0 { rows } else { end.slice / pitch(end) };
    let host = |end: &End| if end.side == Side::Host { end.address as usize } else { 0 };
    let device = |end: &End| if end.side == Side::Host { 0 } else { end.address };
    let (from, to) = (&transfer.source, &transfer.destination);
    CUDA_MEMCPY3D {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: side(from.side),
        srcHost: std::ptr::with_exposed_provenance(host(from)),
        srcDevice: device(from),
        srcArray: cuda_abi::CUarray::NULL,
        reserved0: std::ptr::null_mut(),
        srcPitch: pitch(from) as usize,
        srcHeight: height(from) as usize,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: side(to.side),
        dstHost: std::ptr::with_exposed_provenance_mut(host(to)),
        dstDevice: device(to),
        dstArray: cuda_abi::CUarray::NULL,
        reserved1: std::ptr::null_mut(),
        dstPitch: pitch(to) as usize,
        dstHeight: height(to) as usize,
        WidthInBytes: width as usize,
        Height: rows as usize,
        Depth: slices as usize,
    }
}

/// A fill from a node's parameters, checked.
///
/// # Errors
/// INVALID_VALUE for element sizes that do not exist and addresses that are not memory of a device.
pub fn filling(given: &CUDA_MEMSET_NODE_PARAMS) -> Answer<Filling> {
    let value = match given.elementSize {
        1 => Value::U8(given.value as u8),
        2 => Value::U16(given.value as u16),
        4 => Value::U32(given.value),
        _ => return Err(CUresult::INVALID_VALUE),
    };
    let filling = Filling {
        address: given.dst,
        pitch: given.pitch as u64,
        value,
        width: given.width as u64,
        rows: given.height as u64,
    };
    if filling.is_empty() {
        return Err(CUresult::INVALID_VALUE);
    }
    filling.check().map(|_| filling)
}

/// The parameters that describe a fill.
pub fn fill_parameters(filling: &Filling) -> CUDA_MEMSET_NODE_PARAMS {
    let (value, size) = match filling.value {
        Value::U8(value) => (u32::from(value), 1),
        Value::U16(value) => (u32::from(value), 2),
        Value::U32(value) => (value, 4),
    };
    CUDA_MEMSET_NODE_PARAMS {
        dst: filling.address,
        pitch: filling.pitch as usize,
        value,
        elementSize: size,
        width: filling.width as usize,
        height: filling.rows as usize,
    }
}
