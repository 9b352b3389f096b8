import { join } from "node:path";
import { runOrFail } from "./process.ts";
import { main } from "./progress.ts";
import { root } from "./repository.ts";

// Writes docs/reference from the code; tests of the command line fail while it is not current.
await main(async () => {
  const folder = join(root, "docs/reference");
  await runOrFail({
    command: "node",
    arguments: ["apps/cli/src/main.ts", "internal", "reference", folder],
    log: "reference",
  });
});
