//! Graphs, which are built in this process: their making, their nodes and edges.

use std::ffi::c_char;
use std::fmt::Write;
use std::sync::Arc;

use cuda_abi::{CUgraph, CUgraphEdgeData, CUgraphNode, CUgraphNodeType, CUresult};

use ::graph::{NodeAction as _, handle};

use crate::convert::out;
use crate::entry::Answer;
use crate::graph::{Graph, Node, PLAIN, graph, node, node_handle};

/// Stores an answer.
///
/// # Errors
/// INVALID_VALUE without a place for it.
///
/// # Safety
/// `place` is null or writable.
pub unsafe fn put<T>(place: *mut T, value: T) -> Answer {
    // SAFETY: the caller promises it.
    *unsafe { out(place) }? = value;
    Ok(())
}

/// The nodes of a list of handles.
///
/// # Errors
/// INVALID_VALUE when one names nothing.
///
/// # Safety
/// `handles` is null or has `count` handles.
pub unsafe fn nodes(handles: *const CUgraphNode, count: usize) -> Answer<Vec<Arc<Node>>> {
    if count > 0 && handles.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller promises it.
    (0..count).map(|index| node(unsafe { handles.add(index).read() })).collect()
}

/// Refuses edges with ports: they are between programmatic launches, which no kernel here makes.
///
/// # Errors
/// NOT_SUPPORTED.
///
/// # Safety
/// `edges` is null or has `count` elements.
pub unsafe fn check_edges(edges: *const CUgraphEdgeData, count: usize) -> Answer {
    if edges.is_null() {
        return Ok(());
    }
    // SAFETY: the caller promises it.
    let plain = |edge: CUgraphEdgeData| edge.from_port == 0 && edge.to_port == 0 && edge.r#type == 0;
    // SAFETY: as above.
    let all_plain = (0..count).all(|index| plain(unsafe { edges.add(index).read() }));
    if all_plain { Ok(()) } else { Err(CUresult::NOT_SUPPORTED) }
}

type Pairs = Vec<(Arc<Node>, Arc<Node>)>;

/// # Safety
/// `from` and `to` are null or have `count` handles.
unsafe fn pairs(from: *const CUgraphNode, to: *const CUgraphNode, count: usize) -> Answer<Pairs> {
    // SAFETY: the caller promises it.
    unsafe { Ok(nodes(from, count)?.into_iter().zip(nodes(to, count)?).collect()) }
}

/// Answers a list as CUDA does: without room only its length, and nulls behind its end.
///
/// # Safety
/// `count` is null or leads to the room behind every pointer of `room` that is not null.
unsafe fn list(
    values: &[&[CUgraphNode]],
    room: &[*mut CUgraphNode],
    edges: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Answer {
    if count.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    let length = values[0].len();
    // SAFETY: the caller promises it.
    unsafe {
        if room.iter().all(|room| room.is_null()) {
            return put(count, length);
        }
        let space = count.read();
        for (values, room) in values.iter().zip(room).filter(|(_, room)| !room.is_null()) {
            (0..space)
                .for_each(|at| room.add(at).write(values.get(at).copied().unwrap_or(CUgraphNode::NULL)));
        }
        if !edges.is_null() {
            (0..space).for_each(|at| edges.add(at).write(PLAIN));
        }
        put(count, space.min(length))
    }
}

fn handles(nodes: &[Arc<Node>]) -> Vec<CUgraphNode> {
    nodes.iter().map(node_handle).collect()
}

/// # Safety
/// As for [`list`].
unsafe fn list_edges(
    listed: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    edges: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Answer {
    let (sources, targets): (Vec<_>, Vec<_>) =
        graph(listed)?.edges().iter().map(|(from, to)| (node_handle(from), node_handle(to))).unzip();
    if from.is_null() != to.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller promises it.
    unsafe { list(&[&sources, &targets], &[from, to], edges, count) }
}

fn describe(graph: &Graph, text: &mut String) {
    for node in graph.nodes() {
        let (id, kind) = (node.id, node.action().kind());
        let _ = writeln!(text, "  n{id} [label=\"{id}: type {kind}\"];");
    }
    for (from, to) in graph.edges() {
        let _ = writeln!(text, "  n{} -> n{};", from.id, to.id);
    }
}

exports! {
    fn cuGraphCreate(phGraph: *mut CUgraph, flags: u32) enter_local |_client| {
        if phGraph.is_null() || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        put(phGraph, CUgraph(handle(&Graph::create())))
    }

    fn cuGraphDestroy(hGraph: CUgraph) enter_local |_client| {
        let graph = graph(hGraph)?;
        if graph.is_owned() {
            return Err(CUresult::INVALID_VALUE);
        }
        graph.destroy();
        Ok(())
    }

    fn cuGraphClone(phGraphClone: *mut CUgraph, originalGraph: CUgraph) enter_local |_client| {
        if phGraphClone.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(phGraphClone, CUgraph(handle(&graph(originalGraph)?.duplicate()?)))
    }

    fn cuGraphNodeFindInClone(phNode: *mut CUgraphNode, hOriginalNode: CUgraphNode, hClonedGraph: CUgraph) enter_local |_client| {
        let copy = graph(hClonedGraph)?.copy_of(&*node(hOriginalNode)?).ok_or(CUresult::INVALID_VALUE)?;
        put(phNode, node_handle(&copy))
    }

    fn cuGraphDestroyNode(hNode: CUgraphNode) enter_local |_client| {
        let node = node(hNode)?;
        node.graph()?.remove(&node);
        Ok(())
    }

    fn cuGraphGetNodes(hGraph: CUgraph, nodes: *mut CUgraphNode, numNodes: *mut usize) enter_local |_client| {
        list(&[&handles(&graph(hGraph)?.nodes())], &[nodes], std::ptr::null_mut(), numNodes)
    }

    fn cuGraphGetRootNodes(hGraph: CUgraph, rootNodes: *mut CUgraphNode, numRootNodes: *mut usize) enter_local |_client| {
        list(&[&handles(&graph(hGraph)?.roots())], &[rootNodes], std::ptr::null_mut(), numRootNodes)
    }

    fn cuGraphGetEdges(hGraph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, numEdges: *mut usize) enter_local |_client| {
        list_edges(hGraph, from, to, std::ptr::null_mut(), numEdges)
    }

    fn cuGraphGetEdges_v2(
        hGraph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, edgeData: *mut CUgraphEdgeData,
        numEdges: *mut usize,
    ) enter_local |_client| {
        list_edges(hGraph, from, to, edgeData, numEdges)
    }

    fn cuGraphAddDependencies(
        hGraph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, numDependencies: usize,
    ) enter_local |_client| {
        graph(hGraph)?.connect(&pairs(from, to, numDependencies)?)
    }

    fn cuGraphAddDependencies_v2(
        hGraph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, edgeData: *const CUgraphEdgeData,
        numDependencies: usize,
    ) enter_local |_client| {
        check_edges(edgeData, numDependencies)?;
        graph(hGraph)?.connect(&pairs(from, to, numDependencies)?)
    }

    fn cuGraphRemoveDependencies(
        hGraph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, numDependencies: usize,
    ) enter_local |_client| {
        graph(hGraph)?.disconnect(&pairs(from, to, numDependencies)?)
    }

    fn cuGraphRemoveDependencies_v2(
        hGraph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, edgeData: *const CUgraphEdgeData,
        numDependencies: usize,
    ) enter_local |_client| {
        check_edges(edgeData, numDependencies)?;
        graph(hGraph)?.disconnect(&pairs(from, to, numDependencies)?)
    }

    fn cuGraphNodeGetType(hNode: CUgraphNode, r#type: *mut CUgraphNodeType) enter_local |_client| {
        put(r#type, node(hNode)?.action().kind())
    }

    fn cuGraphNodeGetDependencies(hNode: CUgraphNode, dependencies: *mut CUgraphNode, numDependencies: *mut usize) enter_local |_client| {
        let node = node(hNode)?;
        list(&[&handles(&node.graph()?.before(&node))], &[dependencies], std::ptr::null_mut(), numDependencies)
    }

    fn cuGraphNodeGetDependencies_v2(
        hNode: CUgraphNode, dependencies: *mut CUgraphNode, edgeData: *mut CUgraphEdgeData,
        numDependencies: *mut usize,
    ) enter_local |_client| {
        let node = node(hNode)?;
        list(&[&handles(&node.graph()?.before(&node))], &[dependencies], edgeData, numDependencies)
    }

    fn cuGraphNodeGetDependentNodes(
        hNode: CUgraphNode, dependentNodes: *mut CUgraphNode, numDependentNodes: *mut usize,
    ) enter_local |_client| {
        let node = node(hNode)?;
        list(&[&handles(&node.graph()?.behind(&node))], &[dependentNodes], std::ptr::null_mut(), numDependentNodes)
    }

    fn cuGraphNodeGetDependentNodes_v2(
        hNode: CUgraphNode, dependentNodes: *mut CUgraphNode, edgeData: *mut CUgraphEdgeData,
        numDependentNodes: *mut usize,
    ) enter_local |_client| {
        let node = node(hNode)?;
        list(&[&handles(&node.graph()?.behind(&node))], &[dependentNodes], edgeData, numDependentNodes)
    }

    fn cuGraphDebugDotPrint(hGraph: CUgraph, path: *const c_char, flags: u32) enter_local |_client| {
        let _ = flags;
        let graph = graph(hGraph)?;
        if path.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut text = "digraph graph_1 {\n".to_owned();
        describe(&graph, &mut text);
        text.push_str("}\n");
        let path = std::ffi::CStr::from_ptr(path).to_str().map_err(|_| CUresult::INVALID_VALUE)?;
        std::fs::write(path, text).map_err(|_| CUresult::OPERATING_SYSTEM)
    }
}
