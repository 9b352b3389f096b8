import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { functionPath, shimLibrary, simgpuLibrary } from "./libraries.ts";
import { loadSchema } from "./schema.ts";

const schema = loadSchema();

describe("where the shim's symbols come from", () => {
  it.each([
    ["cuMemAlloc_v2", "crate::exports::cuMemAlloc_v2"],
    ["cuEventRecord", "crate::generated::remoted::cuEventRecord"],
    ["cuEventRecord_ptsz", "crate::generated::variants::cuEventRecord_ptsz"],
    ["cuEventDestroy", "crate::generated::variants::cuEventDestroy"],
    ["cuGraphLaunch_ptsz", "crate::generated::variants::cuGraphLaunch_ptsz"],
    ["cuGraphicsMapResources_ptsz", "crate::generated::unsupported::cuGraphicsMapResources_ptsz"],
  ])("finds %s at %s", (symbol, path) => {
    expect(functionPath(shimLibrary(schema), schema, symbol)).toBe(path);
  });
});

describe("where the simulated GPU's symbols come from", () => {
  let root = "";
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "farpool-api-"));
    mkdirSync(join(root, "api/cuda"), { recursive: true });
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const list = (symbols: readonly string[]): void =>
    writeFileSync(join(root, "api/cuda/simgpu-implemented.json"), JSON.stringify(symbols));

  it("takes everything as not supported while there is no list", () => {
    const path = functionPath(simgpuLibrary(schema, root), schema, "cuInit");
    expect(path).toBe("crate::generated::unsupported::cuInit");
  });

  it("forwards the per-thread and older forms of what is listed", () => {
    list(["cuEventDestroy_v2", "cuMemsetD8Async", "cuEventRecord"]);
    const library = simgpuLibrary(schema, root);
    expect(functionPath(library, schema, "cuEventRecord")).toBe("crate::exports::cuEventRecord");
    expect(functionPath(library, schema, "cuEventRecord_ptsz")).toContain("variants");
    expect(functionPath(library, schema, "cuEventDestroy")).toContain("variants");
    expect(functionPath(library, schema, "cuMemsetD8_v2_ptds")).toContain("variants");
    expect(functionPath(library, schema, "cuMemsetD8_v2")).toContain("unsupported");
  });

  it("refuses a listed name that is not described", () => {
    list(["cuNoSuchCall"]);
    expect(() => simgpuLibrary(schema, root)).toThrow("lists cuNoSuchCall, which is not described");
  });
});
