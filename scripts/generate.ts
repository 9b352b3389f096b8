import { main, write } from "./progress.ts";
import { CommandFailed, run } from "./process.ts";
import { cudaToolkit } from "./setup/cuda-toolkit.ts";

// The generator compares its description with the headers of the toolkit in CUDA_HOME.
await main(async () => {
  const toolkit = await cudaToolkit();
  const command = {
    command: "node",
    arguments: ["api/generator/main.ts", ...process.argv.slice(2)],
    environment: { CUDA_HOME: toolkit.home },
    log: "generate",
  };
  const outcome = await run(command);
  if (outcome.status !== 0) throw new CommandFailed(command, outcome);
  write(outcome.stdout.trimEnd());
});
