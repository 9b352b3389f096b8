#!/usr/bin/env node
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

// Compiled code is kept in the user's own folder: Node's default, a shared one below /tmp, could be prepared by others.
enableCompileCache(join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "farpool/node"));
const { main } = await import("./program.ts");
process.exitCode = await main(process.argv.slice(2));
