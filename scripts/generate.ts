import { runOrFail } from "./process.ts";
import { main, write } from "./progress.ts";
import { cudaToolkit } from "./setup/cuda-toolkit.ts";

// With a toolkit the generator also compares its description with that toolkit's headers.
await main(async () => {
  const toolkit = await cudaToolkit();
  const outcome = await runOrFail({
    command: "node",
    arguments: ["api/generator/main.ts", "--toolkit", toolkit.home, ...process.argv.slice(2)],
    log: "generate",
  });
  if (outcome.stdout !== "") write(outcome.stdout.trimEnd());
});
