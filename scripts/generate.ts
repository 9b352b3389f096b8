import { runOrFail } from "./process.ts";
import { main, write } from "./progress.ts";
import { cudaToolkit } from "./setup/cuda-toolkit.ts";
import { nvmlTools } from "./setup/nvml-tools.ts";

// With NVIDIA's headers the generator also compares its descriptions with them.
await main(async () => {
  const toolkit = await cudaToolkit();
  const { header } = await nvmlTools();
  const outcome = await runOrFail({
    command: "node",
    arguments: [
      ...["api/generator/main.ts", "--toolkit", toolkit.home, "--nvml-header", header],
      ...process.argv.slice(2),
    ],
    log: "generate",
  });
  if (outcome.stdout !== "") write(outcome.stdout.trimEnd());
});
