import { step } from "../progress.ts";
import { cudaToolkit } from "../setup/cuda-toolkit.ts";
import { prepareMachine } from "../setup/machine.ts";
import { nvmlTools } from "../setup/nvml-tools.ts";
import { zig } from "../setup/zig.ts";
import { buildCli } from "./cli.ts";
import { buildExamples } from "./examples.ts";
import { buildAddOn, buildServerPrograms, buildShim } from "./native.ts";

/** Tools that are downloaded once per machine. */
export async function setUp(): Promise<void> {
  await prepareMachine();
  await step("CUDA compiler", cudaToolkit);
  await step("zig, to link for old C libraries", zig);
  await step("NVML's header and nvidia-ml-py, to compare with", nvmlTools);
}

/** Everything in dist/. A part that is up to date costs a second at most. */
export async function buildEverything(): Promise<void> {
  await setUp();
  await step("worker, acceptor and simulated GPU (Rust)", buildServerPrograms);
  await step("libcuda.so.1, libnvidia-ml.so.1 and nvidia-smi for clients (Rust)", buildShim);
  await step("add-on of Node (Rust)", buildAddOn);
  await step("command line, manager and agent (TypeScript)", buildCli);
  await step("CUDA examples", buildExamples);
}
