//! Graphs and stream capture through the library's own interface.

mod kit;

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda_abi::*;
use kit::{Driver, call, expect_pass};

const GLOBAL: CUstreamCaptureMode = CU_STREAM_CAPTURE_MODE_GLOBAL;
const RELAXED: CUstreamCaptureMode = CU_STREAM_CAPTURE_MODE_RELAXED;

/// Runs the case that the environment names; as a test of its own it has none.
#[test]
fn run_case() {
    match std::env::var("SIMGPU_TEST_CASE").as_deref() {
        Ok("source_changes") => source_changes(),
        Ok("built_by_hand") => built_by_hand(),
        Ok("fork_and_join") => fork_and_join(),
        Ok("refusals") => refusals(),
        Ok("update") => update(),
        Ok("graph_memory") => graph_memory(),
        Ok("order") => order(),
        Ok("user_objects") => user_objects(),
        Ok(other) => panic!("no case {other}"),
        Err(_) => {}
    }
}

macro_rules! good {
    ($($call:tt)*) => { assert_eq!(call!($($call)*), CUresult::SUCCESS) };
}

/// What the tests do with graphs.
trait Graphs {
    fn begin(&self, stream: CUstream, mode: CUstreamCaptureMode);
    fn end(&self, stream: CUstream) -> Result<CUgraph, CUresult>;
    fn instantiate(&self, graph: CUgraph) -> CUgraphExec;
    fn run(&self, exec: CUgraphExec, stream: CUstream) -> CUresult;
    fn wait(&self, stream: CUstream);
    fn event(&self) -> CUevent;
    fn status(&self, stream: CUstream) -> CUstreamCaptureStatus;
    fn kernel(&self, function: CUfunction, at: &mut u64, value: &mut u32) -> Kernel;
}

/// A kernel node's parameters and what they point to.
struct Kernel {
    given: CUDA_KERNEL_NODE_PARAMS,
    _pointers: Box<[*mut c_void; 2]>,
}

impl Graphs for Driver {
    fn begin(&self, stream: CUstream, mode: CUstreamCaptureMode) {
        good!(self, cuStreamBeginCapture_v2, PFN_cuStreamBeginCapture_v2, stream, mode);
    }

    fn end(&self, stream: CUstream) -> Result<CUgraph, CUresult> {
        let mut graph = CUgraph(1);
        let result = call!(self, cuStreamEndCapture, PFN_cuStreamEndCapture, stream, &mut graph);
        assert_eq!(result.is_success(), graph != CUgraph::NULL);
        result.into_result().map(|()| graph)
    }

    fn instantiate(&self, graph: CUgraph) -> CUgraphExec {
        let mut exec = CUgraphExec::NULL;
        good!(self, cuGraphInstantiateWithFlags, PFN_cuGraphInstantiateWithFlags, &mut exec, graph, 0);
        exec
    }

    fn run(&self, exec: CUgraphExec, stream: CUstream) -> CUresult {
        call!(self, cuGraphLaunch, PFN_cuGraphLaunch, exec, stream)
    }

    fn wait(&self, stream: CUstream) {
        good!(self, cuStreamSynchronize, PFN_cuStreamSynchronize, stream);
    }

    fn event(&self) -> CUevent {
        let mut event = CUevent::NULL;
        good!(self, cuEventCreate, PFN_cuEventCreate, &mut event, 0);
        event
    }

    fn status(&self, stream: CUstream) -> CUstreamCaptureStatus {
        let mut status = -1;
        good!(self, cuStreamIsCapturing, PFN_cuStreamIsCapturing, stream, &mut status);
        status
    }

    fn kernel(&self, function: CUfunction, at: &mut u64, value: &mut u32) -> Kernel {
        let mut pointers = Box::new([std::ptr::from_mut(at).cast(), std::ptr::from_mut(value).cast()]);
        let given = CUDA_KERNEL_NODE_PARAMS {
            func: function,
            gridDimX: 1,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 1,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: pointers.as_mut_ptr(),
            extra: std::ptr::null_mut(),
            kern: CUkernel::NULL,
            ctx: CUcontext::NULL,
        };
        Kernel { given, _pointers: pointers }
    }
}

#[test]
fn a_captured_copy_reads_its_source_when_the_graph_runs() {
    expect_pass("source_changes", &[]);
}

fn source_changes() {
    let driver = Driver::with_context();
    let stream = driver.create_stream(CU_STREAM_NON_BLOCKING);
    let at = driver.allocate(8).unwrap();
    let mut pinned = std::ptr::null_mut();
    good!(driver, cuMemAllocHost_v2, PFN_cuMemAllocHost_v2, &mut pinned, 8);
    let pinned: *mut u32 = pinned.cast();
    let mut pageable = Box::new(1_u32);
    driver.begin(stream, GLOBAL);
    let source: *mut u32 = &raw mut *pageable;
    good!(driver, cuMemcpyHtoDAsync_v2, PFN_cuMemcpyHtoDAsync_v2, at, source.cast(), 4, stream);
    good!(driver, cuMemcpyHtoDAsync_v2, PFN_cuMemcpyHtoDAsync_v2, at + 4, pinned.cast(), 4, stream);
    let exec = driver.instantiate(driver.end(stream).unwrap());
    for value in 0..50_u32 {
        // SAFETY: both are this test's own, and the stream is idle.
        unsafe { (source.write(value), pinned.write(value * 3)) };
        assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
        driver.wait(stream);
        assert_eq!((driver.read(at), driver.read(at + 4)), (Ok(value), Ok(value * 3)));
    }
}

#[test]
fn a_graph_built_by_hand_keeps_its_own_parameters() {
    expect_pass("built_by_hand", &[]);
}

static CALLS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn count(_: *mut c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
}

fn built_by_hand() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let stream = driver.create_stream(0);
    let at = driver.allocate(1024).unwrap();
    let none = std::ptr::null();
    let (mut graph, mut set, mut store, mut host) =
        (CUgraph::NULL, CUgraphNode::NULL, CUgraphNode::NULL, CUgraphNode::NULL);
    good!(driver, cuGraphCreate, PFN_cuGraphCreate, &mut graph, 0);
    let fill = CUDA_MEMSET_NODE_PARAMS { dst: at, pitch: 0, value: 7, elementSize: 4, width: 256, height: 1 };
    let context = CUcontext::NULL;
    good!(driver, cuGraphAddMemsetNode, PFN_cuGraphAddMemsetNode, &mut set, graph, none, 0, &fill, context);
    let (mut target, mut value) = (at + 4, 42_u32);
    let kernel = driver.kernel(function, &mut target, &mut value);
    good!(
        driver,
        cuGraphAddKernelNode_v2,
        PFN_cuGraphAddKernelNode_v2,
        &mut store,
        graph,
        &set,
        1,
        &kernel.given
    );
    let called = CUDA_HOST_NODE_PARAMS { r#fn: Some(count), userData: std::ptr::null_mut() };
    good!(driver, cuGraphAddHostNode, PFN_cuGraphAddHostNode, &mut host, graph, &store, 1, &called);
    value = 1000;
    let exec = driver.instantiate(graph);
    for launch in 1..=20 {
        good!(driver, cuMemsetD32_v2, PFN_cuMemsetD32_v2, at, 0, 256);
        assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
        driver.wait(stream);
        assert_eq!((driver.read(at), driver.read(at + 4), driver.read(at + 1020)), (Ok(7), Ok(42), Ok(7)));
        assert_eq!(CALLS.load(Ordering::SeqCst), launch);
    }
    // The executable graph changes, the graph does not.
    assert_eq!(value, 1000);
    let changed = call!(
        driver,
        cuGraphExecKernelNodeSetParams_v2,
        PFN_cuGraphExecKernelNodeSetParams_v2,
        exec,
        store,
        &kernel.given
    );
    assert_eq!(changed, CUresult::SUCCESS);
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    driver.wait(stream);
    assert_eq!(driver.read(at + 4), Ok(1000));
    let mut kept = kernel.given;
    good!(driver, cuGraphKernelNodeGetParams_v2, PFN_cuGraphKernelNodeGetParams_v2, store, &mut kept);
    // SAFETY: the node owns one pointer per parameter.
    assert_eq!(unsafe { kept.kernelParams.add(1).read().cast::<u32>().read() }, 42);
    // A circle cannot run.
    good!(driver, cuGraphAddDependencies, PFN_cuGraphAddDependencies, graph, &host, &set, 1);
    let mut refused = CUgraphExec::NULL;
    assert_eq!(
        call!(driver, cuGraphInstantiateWithFlags, PFN_cuGraphInstantiateWithFlags, &mut refused, graph, 0),
        CUresult::INVALID_VALUE
    );
    good!(driver, cuGraphDestroy, PFN_cuGraphDestroy, graph);
    assert_eq!(call!(driver, cuGraphDestroy, PFN_cuGraphDestroy, graph), CUresult::INVALID_VALUE);
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    good!(driver, cuGraphExecDestroy, PFN_cuGraphExecDestroy, exec);
    driver.wait(stream);
    assert_eq!(CALLS.load(Ordering::SeqCst), 22);
    assert_eq!(driver.run(exec, stream), CUresult::INVALID_VALUE);
}

#[test]
fn a_capture_spreads_by_events_and_must_be_joined() {
    expect_pass("fork_and_join", &[]);
}

fn fork_and_join() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let (stream, side) = (driver.create_stream(0), driver.create_stream(0));
    let (fork, join) = (driver.event(), driver.event());
    let at = driver.allocate(64).unwrap();
    for joined in [true, false] {
        driver.begin(stream, GLOBAL);
        assert_eq!(driver.store(function, at, 1, stream), CUresult::SUCCESS);
        good!(driver, cuEventRecord, PFN_cuEventRecord, fork, stream);
        assert_eq!(driver.status(side), CU_STREAM_CAPTURE_STATUS_NONE);
        good!(driver, cuStreamWaitEvent, PFN_cuStreamWaitEvent, side, fork, 0);
        assert_eq!(driver.status(side), CU_STREAM_CAPTURE_STATUS_ACTIVE);
        assert_eq!(driver.store(function, at + 4, 2, side), CUresult::SUCCESS);
        assert_eq!(driver.store(function, at + 8, 3, stream), CUresult::SUCCESS);
        if joined {
            good!(driver, cuEventRecord, PFN_cuEventRecord, join, side);
            good!(driver, cuStreamWaitEvent, PFN_cuStreamWaitEvent, stream, join, 0);
        }
        assert_eq!(driver.store(function, at + 12, 4, stream), CUresult::SUCCESS);
        let ended = driver.end(stream);
        assert_eq!(driver.status(side), CU_STREAM_CAPTURE_STATUS_NONE);
        let Ok(graph) = ended else {
            assert_eq!((joined, ended), (false, Err(CUresult::STREAM_CAPTURE_UNJOINED)));
            continue;
        };
        let (mut nodes, mut edges) = (0, 0);
        let (from, to) = (std::ptr::null_mut(), std::ptr::null_mut());
        good!(driver, cuGraphGetNodes, PFN_cuGraphGetNodes, graph, from, &mut nodes);
        good!(driver, cuGraphGetEdges, PFN_cuGraphGetEdges, graph, from, to, &mut edges);
        assert_eq!((nodes, edges), (4, 4));
        assert_eq!(driver.run(driver.instantiate(graph), stream), CUresult::SUCCESS);
        driver.wait(stream);
        assert_eq!((0..4).map(|word| driver.read(at + word * 4)).collect::<Vec<_>>(), [1, 2, 3, 4].map(Ok));
    }
    driver.begin(stream, GLOBAL);
    good!(driver, cuEventRecord, PFN_cuEventRecord, fork, stream);
    good!(driver, cuStreamWaitEvent, PFN_cuStreamWaitEvent, side, fork, 0);
    assert_eq!(driver.end(side), Err(CUresult::STREAM_CAPTURE_UNMATCHED));
    assert_eq!(driver.end(stream), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
}

#[test]
fn what_cannot_be_captured_is_refused_and_invalidates() {
    expect_pass("refusals", &[]);
}

fn refusals() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let (blocking, free) = (driver.create_stream(0), driver.create_stream(CU_STREAM_NON_BLOCKING));
    let at = driver.allocate(64).unwrap();
    let event = driver.event();
    good!(driver, cuEventRecord, PFN_cuEventRecord, event, blocking);
    driver.wait(blocking);
    assert_eq!(driver.end(free), Err(CUresult::ILLEGAL_STATE));
    let begin =
        |stream, mode| call!(driver, cuStreamBeginCapture_v2, PFN_cuStreamBeginCapture_v2, stream, mode);
    assert_eq!(begin(CUstream::NULL, GLOBAL), CUresult::STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(begin(free, 3), CUresult::INVALID_VALUE);

    let cases: [(CUstream, &dyn Fn() -> CUresult, CUresult); 6] = [
        (blocking, &|| driver.store(function, at, 1, CUstream::NULL), CUresult::STREAM_CAPTURE_IMPLICIT),
        (free, &|| driver.allocate(4).unwrap_err(), CUresult::STREAM_CAPTURE_UNSUPPORTED),
        (free, &|| driver.synchronize(), CUresult::STREAM_CAPTURE_UNSUPPORTED),
        (
            free,
            &|| call!(driver, cuStreamQuery, PFN_cuStreamQuery, free),
            CUresult::STREAM_CAPTURE_UNSUPPORTED,
        ),
        (
            free,
            &|| call!(driver, cuStreamWaitEvent, PFN_cuStreamWaitEvent, free, event, 0),
            CUresult::STREAM_CAPTURE_ISOLATION,
        ),
        (
            free,
            &|| call!(driver, cuMemcpyDtoD_v2, PFN_cuMemcpyDtoD_v2, at, at + 4, 4),
            CUresult::STREAM_CAPTURE_UNSUPPORTED,
        ),
    ];
    for (index, (stream, action, expected)) in cases.into_iter().enumerate() {
        driver.begin(stream, GLOBAL);
        assert_eq!(begin(stream, GLOBAL), CUresult::ILLEGAL_STATE);
        assert_eq!(action(), expected, "case {index}");
        assert_eq!(driver.status(stream), CU_STREAM_CAPTURE_STATUS_INVALIDATED, "case {index}");
        assert_eq!(driver.store(function, at, 1, stream), CUresult::STREAM_CAPTURE_INVALIDATED);
        assert_eq!(driver.end(stream), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
        assert_eq!(driver.store(function, at, 9, stream), CUresult::SUCCESS, "streams work again");
    }

    // Relaxed, by capture or by thread, allows what may be unsafe.
    driver.begin(free, RELAXED);
    assert!(driver.allocate(4).is_ok());
    assert_eq!(driver.store(function, at, 1, CUstream::NULL), CUresult::SUCCESS);
    assert!(driver.end(free).is_ok());
    driver.begin(free, GLOBAL);
    let mut mode = RELAXED;
    good!(driver, cuThreadExchangeStreamCaptureMode, PFN_cuThreadExchangeStreamCaptureMode, &mut mode);
    assert_eq!(mode, GLOBAL);
    assert!(driver.allocate(4).is_ok());
    good!(driver, cuEventRecord, PFN_cuEventRecord, event, free);
    assert_eq!(call!(driver, cuEventQuery, PFN_cuEventQuery, event), CUresult::CAPTURED_EVENT);
    assert_eq!(driver.end(free), Err(CUresult::STREAM_CAPTURE_INVALIDATED));
    good!(driver, cuEventRecord, PFN_cuEventRecord, event, free);
    good!(driver, cuEventSynchronize, PFN_cuEventSynchronize, event);
}

#[test]
fn an_executable_graph_takes_another_graph_of_its_shape() {
    expect_pass("update", &[]);
}

fn update() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let stream = driver.create_stream(CU_STREAM_NON_BLOCKING);
    let at = driver.allocate(64).unwrap();
    let capture = |value, twice| {
        driver.begin(stream, GLOBAL);
        (0..1 + u64::from(twice)).for_each(|word| {
            assert_eq!(driver.store(function, at + word * 4, value, stream), CUresult::SUCCESS);
        });
        driver.end(stream).unwrap()
    };
    let exec = driver.instantiate(capture(1, false));
    let update = |graph| {
        let none = CUgraphNode::NULL;
        let mut info = CUgraphExecUpdateResultInfo { result: -1, errorNode: none, errorFromNode: none };
        let result = call!(driver, cuGraphExecUpdate_v2, PFN_cuGraphExecUpdate_v2, exec, graph, &mut info);
        (result, info.result)
    };
    assert_eq!(update(capture(5, false)), (CUresult::SUCCESS, CU_GRAPH_EXEC_UPDATE_SUCCESS));
    assert_eq!(
        update(capture(6, true)),
        (CUresult::GRAPH_EXEC_UPDATE_FAILURE, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED)
    );
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    driver.wait(stream);
    assert_eq!(driver.read(at), Ok(5));
    // An error of a node ends the context, as elsewhere.
    assert_eq!(update(capture(7, false)), (CUresult::SUCCESS, CU_GRAPH_EXEC_UPDATE_SUCCESS));
    good!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at);
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    assert_eq!(driver.synchronize(), CUresult::ILLEGAL_ADDRESS);
}

#[test]
fn memory_of_a_graph_keeps_its_address() {
    expect_pass("graph_memory", &[]);
}

fn graph_memory() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let stream = driver.create_stream(CU_STREAM_NON_BLOCKING);
    let out = driver.allocate(64).unwrap();
    let before = driver.free_bytes();
    let capture = |freed| {
        let mut at = 0;
        driver.begin(stream, GLOBAL);
        good!(driver, cuMemAllocAsync, PFN_cuMemAllocAsync, &mut at, 4096, stream);
        assert_eq!(driver.store(function, at, 11, stream), CUresult::SUCCESS);
        good!(driver, cuMemcpyDtoDAsync_v2, PFN_cuMemcpyDtoDAsync_v2, out, at, 4, stream);
        if freed {
            good!(driver, cuMemFreeAsync, PFN_cuMemFreeAsync, at, stream);
        }
        (driver.end(stream).unwrap(), at)
    };
    let (graph, _) = capture(true);
    let exec = driver.instantiate(graph);
    for _ in 0..3 {
        good!(driver, cuMemsetD32_v2, PFN_cuMemsetD32_v2, out, 0, 1);
        assert_eq!(driver.synchronize(), CUresult::SUCCESS);
        assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
        driver.wait(stream);
        assert_eq!(driver.read(out), Ok(11));
    }
    good!(driver, cuGraphDestroy, PFN_cuGraphDestroy, graph);
    good!(driver, cuGraphExecDestroy, PFN_cuGraphExecDestroy, exec);
    assert_eq!(driver.free_bytes(), before);

    let (graph, at) = capture(false);
    let exec = driver.instantiate(graph);
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    assert_eq!(driver.run(exec, stream), CUresult::INVALID_VALUE, "what it allocated is not free");
    driver.wait(stream);
    assert_eq!(driver.read(at), Ok(11));
    good!(driver, cuMemFreeAsync, PFN_cuMemFreeAsync, at, stream);
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    good!(driver, cuGraphDestroy, PFN_cuGraphDestroy, graph);
    good!(driver, cuGraphExecDestroy, PFN_cuGraphExecDestroy, exec);
    driver.wait(stream);
    assert_eq!(driver.read(at), Ok(11), "it outlives its graph until it is freed");
    good!(driver, cuMemFree_v2, PFN_cuMemFree_v2, at);
    assert_eq!(driver.free_bytes(), before);
}

#[test]
fn launches_keep_the_order_of_their_streams() {
    expect_pass("order", &[]);
}

fn order() {
    let driver = Driver::with_context();
    let function = driver.store_function();
    let (stream, other) =
        (driver.create_stream(CU_STREAM_NON_BLOCKING), driver.create_stream(CU_STREAM_NON_BLOCKING));
    let (at, copy) = (driver.allocate(4).unwrap(), driver.allocate(4096).unwrap());
    let event = driver.event();
    driver.begin(stream, GLOBAL);
    assert_eq!(driver.store(function, at, 1, stream), CUresult::SUCCESS);
    good!(driver, cuEventRecordWithFlags, PFN_cuEventRecordWithFlags, event, stream, 1);
    let exec = driver.instantiate(driver.end(stream).unwrap());
    for round in 0..500_u64 {
        assert_eq!(driver.store(function, at, 2, stream), CUresult::SUCCESS);
        assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
        // The event of the graph's node carries the order to another stream.
        good!(driver, cuStreamWaitEvent, PFN_cuStreamWaitEvent, other, event, 0);
        let to = copy + round * 4;
        good!(driver, cuMemcpyDtoDAsync_v2, PFN_cuMemcpyDtoDAsync_v2, to, at, 4, other);
        good!(driver, cuEventRecord, PFN_cuEventRecord, event, other);
        good!(driver, cuStreamWaitEvent, PFN_cuStreamWaitEvent, stream, event, 0);
    }
    driver.wait(other);
    assert!((0..500).all(|round| driver.read(copy + round * 4) == Ok(1)));
    good!(driver, cuEventSynchronize, PFN_cuEventSynchronize, event);
}

#[test]
fn objects_live_as_long_as_the_graphs_that_hold_them() {
    expect_pass("user_objects", &[]);
}

fn user_objects() {
    let driver = Driver::with_context();
    let stream = driver.create_stream(0);
    let (mut object, mut graph) = (CUuserObject::NULL, CUgraph::NULL);
    let none = std::ptr::null_mut();
    good!(driver, cuUserObjectCreate, PFN_cuUserObjectCreate, &mut object, none, Some(count), 2, 1);
    good!(driver, cuGraphCreate, PFN_cuGraphCreate, &mut graph, 0);
    good!(driver, cuGraphRetainUserObject, PFN_cuGraphRetainUserObject, graph, object, 1, 1);
    good!(driver, cuUserObjectRelease, PFN_cuUserObjectRelease, object, 1);
    let exec = driver.instantiate(graph);
    good!(driver, cuGraphDestroy, PFN_cuGraphDestroy, graph);
    assert_eq!(driver.run(exec, stream), CUresult::SUCCESS);
    driver.wait(stream);
    assert_eq!(CALLS.load(Ordering::SeqCst), 0);
    good!(driver, cuGraphExecDestroy, PFN_cuGraphExecDestroy, exec);
    assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    let gone = call!(driver, cuUserObjectRelease, PFN_cuUserObjectRelease, object, 1);
    assert_eq!(gone, CUresult::INVALID_VALUE);
}
