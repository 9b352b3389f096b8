import { main, step, write } from "./progress.ts";
import { cudaToolkit } from "./setup/cuda-toolkit.ts";
import { prepareMachine } from "./setup/machine.ts";
import { zig } from "./setup/zig.ts";

await main(async () => {
  await prepareMachine();
  const toolkit = await step("CUDA compiler", cudaToolkit);
  const linker = await step("zig, to link for old C libraries", zig);
  write(`CUDA ${toolkit.version} in ${toolkit.home}`);
  write(`zig in ${linker.zig}`);
});
