//! Executable graphs.

use std::ffi::c_char;

use cuda_abi::{
    CU_GRAPH_EXEC_UPDATE_SUCCESS, CUDA_GRAPH_INSTANTIATE_PARAMS, CUDA_HOST_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext,
    CUevent, CUgraph, CUgraphExec, CUgraphExecUpdateResult, CUgraphExecUpdateResultInfo, CUgraphNode,
    CUgraphNodeParams, CUresult, CUstream,
};

use crate::client::Client;
use crate::convert::write_if;
use crate::entry::Answer;
use crate::exports::graph::put;
use crate::exports::graph_node::{
    any_action, context, copy_action, event, fill_action, host_action, kernel_action, newest,
};
use crate::graph::action::Action;
use crate::graph::exec::{EXECS, Exec, exec};
use crate::graph::{graph, node};
use crate::stream;

/// Free what a launch left, upload, node priorities.
const FLAGS: u64 = 1 | 2 | 8;
const DEVICE_LAUNCH: u64 = 4;
const INVALID_STRUCTURE: i32 = 2;

fn instantiate(client: &'static Client, source: CUgraph, flags: u64) -> Answer<CUgraphExec> {
    if flags & DEVICE_LAUNCH != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    if flags & !FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    Ok(CUgraphExec(EXECS.insert(&Exec::create(client, &*graph(source)?, flags)?)))
}

/// # Safety
/// The pointers are null or writable.
unsafe fn instantiate_with_log(
    client: &'static Client,
    out: *mut CUgraphExec,
    source: CUgraph,
    error_node: *mut CUgraphNode,
    log: *mut c_char,
    size: usize,
) -> Answer {
    // SAFETY: the caller promises it.
    unsafe {
        write_if(error_node, CUgraphNode::NULL);
        if size > 0 {
            write_if(log, 0);
        }
        if out.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(out, instantiate(client, source, 0)?)
    }
}

fn update(client: &Client, executable: CUgraphExec, source: CUgraph) -> Answer<CUgraphExecUpdateResult> {
    let (exec, graph) = (exec(executable)?, graph(source)?);
    Ok(exec.update(client, &graph).err().unwrap_or(CU_GRAPH_EXEC_UPDATE_SUCCESS))
}

fn verdict(result: CUgraphExecUpdateResult) -> Answer {
    if result == CU_GRAPH_EXEC_UPDATE_SUCCESS { Ok(()) } else { Err(CUresult::GRAPH_EXEC_UPDATE_FAILURE) }
}

exports! {
    fn cuGraphInstantiate(
        phGraphExec: *mut CUgraphExec, hGraph: CUgraph, phErrorNode: *mut CUgraphNode, logBuffer: *mut c_char,
        bufferSize: usize,
    ) enter |client| {
        instantiate_with_log(client, phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize)
    }

    fn cuGraphInstantiate_v2(
        phGraphExec: *mut CUgraphExec, hGraph: CUgraph, phErrorNode: *mut CUgraphNode, logBuffer: *mut c_char,
        bufferSize: usize,
    ) enter |client| {
        instantiate_with_log(client, phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize)
    }

    fn cuGraphInstantiateWithFlags(phGraphExec: *mut CUgraphExec, hGraph: CUgraph, flags: u64) enter |client| {
        if phGraphExec.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(phGraphExec, instantiate(client, hGraph, flags)?)
    }

    fn cuGraphInstantiateWithParams(
        phGraphExec: *mut CUgraphExec, hGraph: CUgraph, instantiateParams: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    ) enter |client| {
        if phGraphExec.is_null() || instantiateParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let given = &mut *instantiateParams;
        given.hErrNode_out = CUgraphNode::NULL;
        let made = instantiate(client, hGraph, given.flags);
        given.result_out = if made.is_ok() { 0 } else { INVALID_STRUCTURE };
        put(phGraphExec, made?)
    }

    fn cuGraphExecDestroy(hGraphExec: CUgraphExec) enter |client| {
        EXECS.remove(hGraphExec.0).ok_or(CUresult::INVALID_VALUE)?.destroy(client)
    }

    fn cuGraphExecGetFlags(hGraphExec: CUgraphExec, flags: *mut u64) enter |_client| {
        put(flags, exec(hGraphExec)?.flags)
    }

    fn cuGraphLaunch(hGraphExec: CUgraphExec, hStream: CUstream) enter |client| {
        let exec = exec(hGraphExec)?;
        exec.launch(client, stream::find(client, hStream.0 as u64)?)
    }

    fn cuGraphUpload(hGraphExec: CUgraphExec, hStream: CUstream) enter |client| {
        let exec = exec(hGraphExec)?;
        exec.upload(client, stream::resolve(client, hStream.0 as u64)?)
    }

    fn cuGraphExecKernelNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) enter |client| {
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, kernel_action(client, &newest(nodeParams)?)?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS,
    ) enter |client| {
        if nodeParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, kernel_action(client, &nodeParams.read())?)
    }

    fn cuGraphExecMemcpyNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, copyParams: *const CUDA_MEMCPY3D, ctx: CUcontext,
    ) enter |client| {
        let context = context(client, ctx)?;
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, copy_action(client, copyParams, context)?)
    }

    fn cuGraphExecMemsetNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, memsetParams: *const CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext,
    ) enter |client| {
        let context = context(client, ctx)?;
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, fill_action(client, memsetParams, context)?)
    }

    fn cuGraphExecHostNodeSetParams(
        hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *const CUDA_HOST_NODE_PARAMS,
    ) enter |client| {
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, host_action(nodeParams)?)
    }

    fn cuGraphExecChildGraphNodeSetParams(hGraphExec: CUgraphExec, hNode: CUgraphNode, childGraph: CUgraph) enter |client| {
        exec(hGraphExec)?.set_child(client, &*node(hNode)?, &*graph(childGraph)?)
    }

    fn cuGraphExecEventRecordNodeSetEvent(hGraphExec: CUgraphExec, hNode: CUgraphNode, event: CUevent) enter |client| {
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, Action::Record(self::event(client, event)?))
    }

    fn cuGraphExecEventWaitNodeSetEvent(hGraphExec: CUgraphExec, hNode: CUgraphNode, event: CUevent) enter |client| {
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, Action::Wait(self::event(client, event)?))
    }

    fn cuGraphExecNodeSetParams(hGraphExec: CUgraphExec, hNode: CUgraphNode, nodeParams: *mut CUgraphNodeParams) enter |client| {
        exec(hGraphExec)?.set_action(client, &*node(hNode)?, any_action(client, nodeParams)?)
    }

    fn cuGraphNodeSetEnabled(hGraphExec: CUgraphExec, hNode: CUgraphNode, isEnabled: u32) enter |client| {
        exec(hGraphExec)?.set_enabled(client, &*node(hNode)?, isEnabled != 0)
    }

    fn cuGraphNodeGetEnabled(hGraphExec: CUgraphExec, hNode: CUgraphNode, isEnabled: *mut u32) enter |_client| {
        put(isEnabled, u32::from(exec(hGraphExec)?.is_enabled(&*node(hNode)?)?))
    }

    fn cuGraphExecUpdate(
        hGraphExec: CUgraphExec, hGraph: CUgraph, hErrorNode_out: *mut CUgraphNode,
        updateResult_out: *mut CUgraphExecUpdateResult,
    ) enter |client| {
        let result = update(client, hGraphExec, hGraph)?;
        write_if(hErrorNode_out, CUgraphNode::NULL);
        put(updateResult_out, result)?;
        verdict(result)
    }

    fn cuGraphExecUpdate_v2(
        hGraphExec: CUgraphExec, hGraph: CUgraph, resultInfo: *mut CUgraphExecUpdateResultInfo,
    ) enter |client| {
        let result = update(client, hGraphExec, hGraph)?;
        let none = CUgraphNode::NULL;
        put(resultInfo, CUgraphExecUpdateResultInfo { result, errorNode: none, errorFromNode: none })?;
        verdict(result)
    }
}
