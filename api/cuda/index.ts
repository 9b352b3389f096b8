/** The whole description: every exported function of the CUDA 13.0 driver library that we know. */

import type { Call, Noun } from "../model.ts";
import { capture } from "./capture.ts";
import { checkpoint } from "./checkpoint.ts";
import { context } from "./context.ts";
import { copy } from "./copy.ts";
import { coredump } from "./coredump.ts";
import { device } from "./device.ts";
import { event } from "./event.ts";
import { execution } from "./execution.ts";
import { external } from "./external.ts";
import { graph } from "./graph.ts";
import { graphNode } from "./graph-node.ts";
import { greenContext } from "./green-context.ts";
import { initialisation } from "./initialisation.ts";
import { ipc } from "./ipc.ts";
import { library } from "./library.ts";
import { link } from "./link.ts";
import { logs } from "./logs.ts";
import { managedMemory } from "./managed-memory.ts";
import { memory } from "./memory.ts";
import { memoryPool } from "./memory-pool.ts";
import { memset } from "./memset.ts";
import { module } from "./module.ts";
import { multicast } from "./multicast.ts";
import { occupancy } from "./occupancy.ts";
import { peer } from "./peer.ts";
import { primaryContext } from "./primary-context.ts";
import { profiler } from "./profiler.ts";
import { stream } from "./stream.ts";
import { streamMemoryOperations } from "./stream-memory-operations.ts";
import { tensorMap } from "./tensor-map.ts";
import { texture } from "./texture.ts";
import { virtualMemory } from "./virtual-memory.ts";

export const nouns: readonly Noun[] = [
  initialisation,
  device,
  primaryContext,
  context,
  peer,
  module,
  library,
  memory,
  copy,
  memset,
  stream,
  event,
  execution,
  occupancy,
  profiler,
  capture,
  memoryPool,
  managedMemory,
  virtualMemory,
  streamMemoryOperations,
  texture,
  graph,
  graphNode,
  link,
  ipc,
  external,
  tensorMap,
  greenContext,
  multicast,
  coredump,
  checkpoint,
  logs,
];

export const calls: readonly Call[] = nouns.flatMap((noun) => noun.calls);
