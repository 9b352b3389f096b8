#!/usr/bin/env node
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

// In the user's own folder, as src/main.ts says.
enableCompileCache(join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "farpool/node"));
const [{ BITFUSION_COMMANDS }, { complain }, { execute }] = await Promise.all([
  import("./commands.ts"),
  import("../core/output.ts"),
  import("../core/parse.ts"),
]);
try {
  process.exitCode = await execute(BITFUSION_COMMANDS, process.argv.slice(2));
} catch (error) {
  process.exitCode = complain(error);
}
