//! Executable graphs.

use std::ffi::c_char;

use cuda_abi::{
    CU_GRAPH_EXEC_UPDATE_SUCCESS, CUDA_GRAPH_INSTANTIATE_PARAMS, CUDA_HOST_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext,
    CUevent, CUgraph, CUgraphExec, CUgraphExecUpdateResult, CUgraphExecUpdateResultInfo, CUgraphNode,
    CUgraphNodeParams, CUresult, CUstream,
};

use crate::capture;
use crate::context::{self, context};
use crate::event::event;
use crate::exports::graph_node::{any_action, copy_action, fill_action, host_action, kernel_action, newest};
use crate::graph::action::Action;
use crate::graph::exec::{EXECS, Exec, exec};
use crate::graph::{graph, node};
use crate::guard::{Answer, exports, put, put_optional};
use crate::stream::stream;

/// Free what a launch left, upload, node priorities.
const FLAGS: u64 = 1 | 2 | 8;
const DEVICE_LAUNCH: u64 = 4;
const INVALID_STRUCTURE: i32 = 2;

fn instantiate(hGraph: CUgraph, flags: u64) -> Answer<CUgraphExec> {
    if flags & DEVICE_LAUNCH != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    if flags & !FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(CUgraphExec(EXECS.insert(&Exec::create(&*graph(hGraph)?, flags)?)))
}

/// # Safety
/// The pointers are null or writable.
unsafe fn instantiate_with_log(
    out: *mut CUgraphExec,
    hGraph: CUgraph,
    error_node: *mut CUgraphNode,
    log: *mut c_char,
    size: usize,
) -> Answer {
    // SAFETY: the caller promises it.
    unsafe {
        put_optional(error_node, CUgraphNode::NULL);
        if size > 0 {
            put_optional(log, 0);
        }
        if out.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(out, instantiate(hGraph, 0)?)
    }
}

fn update(hGraphExec: CUgraphExec, hGraph: CUgraph) -> Answer<CUgraphExecUpdateResult> {
    let (exec, graph) = (exec(hGraphExec)?, graph(hGraph)?);
    Ok(exec.update(&graph).err().unwrap_or(CU_GRAPH_EXEC_UPDATE_SUCCESS))
}

fn verdict(result: CUgraphExecUpdateResult) -> Answer {
    if result == CU_GRAPH_EXEC_UPDATE_SUCCESS { Ok(()) } else { Err(CUresult::GRAPH_EXEC_UPDATE_FAILURE) }
}

exports! {
    fn cuGraphInstantiate(
        phGraphExec: *mut CUgraphExec, hGraph: CUgraph, phErrorNode: *mut CUgraphNode, logBuffer: *mut c_char,
        bufferSize: usize,
    ) {
        instantiate_with_log(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize)
    }

    fn cuGraphInstantiate_v2(
        phGraphExec: *mut CUgraphExec, hGraph: CUgraph, phErrorNode: *mut CUgraphNode, logBuffer: *mut c_char,
        bufferSize: usize,
    ) {
        instantiate_with_log(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize)
    }

    fn cuGraphInstantiateWithFlags(phGraphExec: *mut CUgraphExec, hGraph: CUgraph, flags: u64) {
        if phGraphExec.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(phGraphExec, instantiate(hGraph, flags)?)
    }

    fn cuGraphInstantiateWithParams(
        phGraphExec: *mut CUgraphExec, hGraph: CUgraph, instantiateParams: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    ) {
        if phGraphExec.is_null() || instantiateParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let given = &mut *instantiateParams;
        given.hErrNode_out = CUgraphNode::NULL;
        let made = instantiate(hGraph, given.flags);
        given.result_out = if made.is_ok() { 0 } else { INVALID_STRUCTURE };
        put(phGraphExec, made?)
    }

    fn cuGraphExecDestroy(hGraphExec: CUgraphExec) {
        context::unharmed()?;
        // Launches that are queued hold what they need.
        EXECS.remove(hGraphExec.0).map(|_| ()).ok_or(CUresult::INVALID_VALUE)
    }

    fn cuGraphExecGetFlags(hGraphExec: CUgraphExec, flags: *mut u64) {
        put(flags, exec(hGraphExec)?.flags)
    }

    fn cuGraphLaunch(hGraphExec: CUgraphExec, hStream: CUstream) {
        let exec = exec(hGraphExec)?;
        exec.launch(&stream(hStream)?)
    }

    fn cuGraphUpload(hGraphExec: CUgraphExec, hStream: CUstream) {
        exec(hGraphExec)?;
        capture::refuse(&stream(hStream)?)
    }

    fn cuGraphExecKernelNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) {
        exec(hGraphExec)?.set_action(&*node(hNode)?, kernel_action(&newest(nodeParams)?)?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS,
    ) {
        if nodeParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        exec(hGraphExec)?.set_action(&*node(hNode)?, kernel_action(&nodeParams.read())?)
    }

    fn cuGraphExecMemcpyNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, copyParams: *const CUDA_MEMCPY3D, ctx: CUcontext,
    ) {
        context(ctx)?;
        exec(hGraphExec)?.set_action(&*node(hNode)?, copy_action(copyParams)?)
    }

    fn cuGraphExecMemsetNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, memsetParams: *const CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext,
    ) {
        context(ctx)?;
        exec(hGraphExec)?.set_action(&*node(hNode)?, fill_action(memsetParams)?)
    }

    fn cuGraphExecHostNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *const CUDA_HOST_NODE_PARAMS,
    ) {
        exec(hGraphExec)?.set_action(&*node(hNode)?, host_action(nodeParams)?)
    }

    fn cuGraphExecChildGraphNodeSetParams(hGraphExec: CUgraphExec, hNode: CUgraphNode, childGraph: CUgraph) {
        exec(hGraphExec)?.set_child(&*node(hNode)?, &*graph(childGraph)?)
    }

    fn cuGraphExecEventRecordNodeSetEvent(hGraphExec: CUgraphExec, hNode: CUgraphNode, event: CUevent) {
        exec(hGraphExec)?.set_action(&*node(hNode)?, Action::Record(self::event(event)?))
    }

    fn cuGraphExecEventWaitNodeSetEvent(hGraphExec: CUgraphExec, hNode: CUgraphNode, event: CUevent) {
        exec(hGraphExec)?.set_action(&*node(hNode)?, Action::Wait(self::event(event)?))
    }

    fn cuGraphExecNodeSetParams(hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *mut CUgraphNodeParams) {
        exec(hGraphExec)?.set_action(&*node(hNode)?, any_action(nodeParams)?)
    }

    fn cuGraphNodeSetEnabled(hGraphExec: CUgraphExec, hNode: CUgraphNode, isEnabled: u32) {
        exec(hGraphExec)?.set_enabled(&*node(hNode)?, isEnabled != 0)
    }

    fn cuGraphNodeGetEnabled(hGraphExec: CUgraphExec, hNode: CUgraphNode, isEnabled: *mut u32) {
        put(isEnabled, u32::from(exec(hGraphExec)?.is_enabled(&*node(hNode)?)?))
    }

    fn cuGraphExecUpdate(
        hGraphExec: CUgraphExec, hGraph: CUgraph, hErrorNode_out: *mut CUgraphNode,
        updateResult_out: *mut CUgraphExecUpdateResult,
    ) {
        let result = update(hGraphExec, hGraph)?;
        put_optional(hErrorNode_out, CUgraphNode::NULL);
        put(updateResult_out, result)?;
        verdict(result)
    }

    fn cuGraphExecUpdate_v2(
        hGraphExec: CUgraphExec, hGraph: CUgraph, resultInfo: *mut CUgraphExecUpdateResultInfo,
    ) {
        let result = update(hGraphExec, hGraph)?;
        let none = CUgraphNode::NULL;
        put(resultInfo, CUgraphExecUpdateResultInfo { result, errorNode: none, errorFromNode: none })?;
        verdict(result)
    }
}
