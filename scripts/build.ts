import { relative } from "node:path";
import { buildEverything } from "./build/everything.ts";
import { main, write } from "./progress.ts";
import { dist, root } from "./repository.ts";

await main(async () => {
  await buildEverything();
  write(`built: ${relative(root, dist)}/`);
});
