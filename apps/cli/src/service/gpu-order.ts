import { readFileSync } from "node:fs";
import { join } from "node:path";
import { findInstallation, servicePlaces, type ServiceScope } from "@farpool/layout";
import { loaderCache } from "../core/loader-cache.ts";
import type { AskedService } from "./ask.ts";
import { localGpuModes } from "./configuration.ts";
import { findDriver, foldersOfPath, isSameLibrary, librariesIn, loaderFolders } from "./local-driver.ts";
import type { LocalGpu } from "./local-gpu.ts";

/** What decides where a program that is started here gets its GPU from. */
export interface Surroundings {
  /** `FARPOOL_SESSION`. */
  readonly session: string | undefined;
  /** `FARPOOL`. */
  readonly wanted: string | undefined;
  /** Those that listen, in their order. */
  readonly services: ReadonlyArray<{ readonly scope: ServiceScope; readonly refusal: string | null }>;
  /** What this machine's owner has said of its own GPUs. */
  readonly localGpu: LocalGpu;
  /** This machine's own `libcuda.so.1`. */
  readonly driver: string | undefined;
  /** The `libcuda.so.1` that the loader finds first, and whether that is the shim. */
  readonly loaded: { readonly path: string; readonly isShim: boolean } | undefined;
}

export type GpuSource = "session" | "own-service" | "machine-service" | "local-driver" | "no-device";

export interface GpuOrder {
  /** Where programs look, one after the other. */
  readonly order: readonly string[];
  /** What of it is theirs who are started here. */
  readonly source: GpuSource;
  readonly sentence: string;
}

/** As the shim goes about it: native/place, native/shim-cuda/src/{aside,connect}.rs. */
export function describeOrder(around: Surroundings): GpuOrder {
  return { order: orderOf(around.localGpu), ...sourceOf(around) };
}

export function orderLine({ order }: GpuOrder): string {
  return order.join(" → ");
}

function orderOf(localGpu: LocalGpu): readonly string[] {
  const services = ["your own service", "this machine's service"];
  const driver = "the local driver";
  const byMode = { first: [driver, ...services], "pool-first": [...services, driver], off: services };
  return ["FARPOOL_SESSION", "FARPOOL=local|pool", ...byMode[localGpu], "no device"];
}

type Source = Pick<GpuOrder, "source" | "sentence">;

const NONE = "'farpool run -n 1 -- PROGRAM' takes a GPU for one program";
const noDevice = (why: string): Source => ({ source: "no-device", sentence: `no device: ${why}` });

function sourceOf(around: Surroundings): Source {
  const { session, wanted, services, localGpu, driver, loaded } = around;
  if (loaded === undefined) return noDevice(`the loader finds no libcuda.so.1; ${NONE}`);
  if (!loaded.isShim) {
    const why = "the loader finds it before Farpool's; 'farpool doctor' says more";
    return { source: "local-driver", sentence: `${loaded.path}: ${why}` };
  }
  if (session !== undefined) return { source: "session", sentence: `the session behind ${session}` };
  const local = (path: string): Source => ({ source: "local-driver", sentence: `the local driver, ${path}` });
  if (wanted === "local")
    return driver === undefined
      ? noDevice("FARPOOL is 'local', and this machine has no driver of its own")
      : local(driver);
  if (wanted !== undefined && wanted !== "pool")
    return noDevice(`FARPOOL is '${wanted}', expected 'local' or 'pool', or nothing`);
  const isAny = wanted === undefined;
  if (isAny && localGpu === "first" && driver !== undefined) return local(driver);
  const service = services.find(({ refusal }) => refusal === null);
  if (service !== undefined)
    return service.scope === "user"
      ? { source: "own-service", sentence: "your own service" }
      : { source: "machine-service", sentence: "this machine's service" };
  if (isAny && localGpu !== "off" && driver !== undefined) return local(driver);
  const refusal = services.at(-1)?.refusal;
  return noDevice(refusal ?? `no client service is there for them; ${NONE}`);
}

/** Reads all of it for this shell. */
export function lookAround(asked: readonly AskedService[]): Surroundings {
  const shim = join(shimFolder(), "libcuda.so.1");
  const path = foldersOfPath(process.env["LD_LIBRARY_PATH"]);
  const known = [...librariesIn(path), ...loaderCache()];
  const [first] = known;
  return {
    session: variable("FARPOOL_SESSION"),
    wanted: variable("FARPOOL"),
    // Who does not answer may do so later: programs wait for it.
    services: asked.map(({ scope, status }) => ({ scope, refusal: status?.you.refusal ?? null })),
    // Programs read this file, wherever the service has its own.
    localGpu: readLocalGpu(servicePlaces("system", {}).configuration),
    driver: findDriver([...path, ...loaderFolders()], shim),
    loaded: first === undefined ? undefined : { path: first, isShim: isSameLibrary(first, shim) },
  };
}

/** Where nothing is built there is no shim. */
function shimFolder(): string {
  try {
    return findInstallation().shimFolder;
  } catch {
    return "/nonexistent";
  }
}

/** As programs read it: one line, not YAML. Exported for its test. */
export function readLocalGpu(file: string): LocalGpu {
  try {
    const [, value = ""] = /^local-gpu:([^#\n]*)/m.exec(readFileSync(file, "utf8")) ?? [];
    const said = value.trim().replaceAll(/^["']+|["']+$/g, "");
    return localGpuModes.find((mode) => mode === said) ?? "pool-first";
  } catch {
    return "pool-first";
  }
}

function variable(name: string): string | undefined {
  const value = process.env[name];
  return value === "" ? undefined : value;
}
