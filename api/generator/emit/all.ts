/** Every output of the generator. */

import type { Output } from "../rustfmt.ts";
import { shimLibrary, simgpuLibrary } from "../libraries.ts";
import type { NvmlSchema } from "../nvml-schema.ts";
import type { Schema } from "../schema.ts";
import { emitAbiSignatures } from "./abi-signatures.ts";
import { emitAbiModule, emitAbiTypes } from "./abi-types.ts";
import { emitCoverage } from "./coverage.ts";
import { emitDriver } from "./driver.ts";
import { emitLibrary } from "./library.ts";
import { emitNvmlCoverage } from "./nvml-coverage.ts";
import { emitNvmlLibrary } from "./nvml-library.ts";
import { emitNvmlTypes } from "./nvml-types.ts";
import { emitProcAddress } from "./proc-address.ts";
import { emitShim } from "./shim.ts";
import { emitWire } from "./wire.ts";
import { emitWireCalls } from "./wire-calls.ts";
import { emitWireTests } from "./wire-tests.ts";
import { emitTouched, emitWorker, emitWorkerModule } from "./worker.ts";

export function emitAll(schema: Schema, nvml: NvmlSchema, root: string): readonly Output[] {
  const rust = [
    emitAbiModule(),
    emitAbiTypes(),
    emitAbiSignatures(schema),
    emitProcAddress(schema),
    emitWire(schema),
    emitWireTests(schema),
    emitWireCalls(schema),
    emitDriver(schema),
    emitShim(schema),
    emitWorker(schema),
    emitWorkerModule(),
    emitTouched(schema),
    ...emitLibrary(simgpuLibrary(schema, root), schema),
    ...emitLibrary(shimLibrary(schema), schema),
    ...emitNvmlTypes(nvml),
    ...emitNvmlLibrary(nvml),
  ];
  const texts = rust.map((file) => ({ path: file.path, text: file.text() }));
  return [...texts, emitCoverage(schema, root), emitNvmlCoverage(nvml)];
}
