import { runOrFail } from "../process.ts";

/** The whole TypeScript side as one file: dist/cli/farpool.mjs. */
export async function buildCli(): Promise<void> {
  await runOrFail({ command: "node", arguments: ["apps/cli/build.ts"], log: "build-cli" });
}
