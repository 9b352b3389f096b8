import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runOrFail } from "../process.ts";
import { dist, root } from "../repository.ts";

const bundle = join(dist, "cli", "farpool.mjs");
const stamp = join(dist, ".cli-sources");

/**
 * The whole TypeScript side in dist/cli, and manual pages and completions in dist/share. Nothing is touched when no source changed, so a pool that runs
 * from this checkout keeps the chunks that it has not loaded yet.
 */
export async function buildCli(): Promise<void> {
  const digest = digestOfSources();
  if (existsSync(bundle) && existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  await runOrFail({ command: "node", arguments: ["apps/cli/build.ts"], log: "build-cli" });
  const share = ["internal", "share", join(dist, "share")];
  await runOrFail({ command: "node", arguments: [bundle, ...share], log: "build-share" });
  mkdirSync(dist, { recursive: true });
  writeFileSync(stamp, digest);
}

function digestOfSources(): string {
  const hash = createHash("sha256");
  const sources = ["apps", "packages"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.includes("node_modules"))
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  for (const path of [join(root, "package-lock.json"), ...sources.toSorted()]) {
    hash.update(path).update("\0").update(readFileSync(path));
  }
  return hash.digest("hex");
}
