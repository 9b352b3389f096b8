import { readFileSync } from "node:fs";
import { replacePrivateFile } from "@farpool/client-api";
import {
  connectionIdSchema,
  deviceAttributesSchema,
  gpuUuidSchema,
  sessionIdSchema,
} from "@farpool/contract";
import * as z from "zod";

const stateSchema = z.object({
  /** Process numbers and start times mean nothing after the next boot. */
  bootId: z.string(),
  sessionId: sessionIdSchema.nullable(),
  /** Who was let into that session: each may resume its own connection. */
  processes: z.array(
    z.object({
      connectionId: connectionIdSchema,
      /** The place of the session's server that it is to. */
      server: z.int().min(0).default(0),
      keyHash: z.string(),
      pid: z.int(),
      uid: z.int(),
      start: z.number(),
      program: z.string(),
    }),
  ),
  identity: z
    .object({
      model: z.string(),
      memoryTotalBytes: z.int(),
      memoryBytes: z.int(),
      driverVersion: z.string(),
      attributes: deviceAttributesSchema,
      gpus: z.array(z.object({ uuid: gpuUuidSchema, pciBusId: z.string() })),
    })
    .nullable(),
});
export type ServiceState = z.output<typeof stateSchema>;
export type KnownProcess = ServiceState["processes"][number];
export type GpuIdentity = NonNullable<ServiceState["identity"]>;

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** A file that is not there or not understood is as none: then nothing is adopted, and the lease ends the rest. */
function readState(path: string): ServiceState {
  const none: ServiceState = { bootId: bootId(), sessionId: null, processes: [], identity: null };
  try {
    const state = stateSchema.parse(JSON.parse(readFileSync(path, "utf8")));
    if (state.bootId === none.bootId) return state;
    // The session outlives a crash of the machine, and is in the way of another one; its processes do not.
    const processes = state.processes.map((each) => ({ ...each, start: NEVER }));
    return { ...state, bootId: none.bootId, processes };
  } catch {
    return none;
  }
}

/** When no process has started. */
const NEVER = -1;

export interface StateKeeper {
  readonly current: ServiceState;
  change(changes: Partial<ServiceState>): void;
}

export function openState(path: string, log: (sentence: string) => void): StateKeeper {
  let current = readState(path);
  return {
    get current() {
      return current;
    },
    change(changes) {
      current = { ...current, ...changes };
      try {
        writeState(path, current);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        log(`the state could not be written, so the next service will not find the session: ${path}: ${why}`);
      }
    },
  };
}

function writeState(path: string, state: ServiceState): void {
  replacePrivateFile(path, `${JSON.stringify(state)}\n`);
}
