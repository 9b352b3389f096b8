import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runOrFail } from "./process.ts";
import { main } from "./progress.ts";
import { root } from "./repository.ts";

/** Runs the end-to-end tests, notes every CUDA call that a program made through the pool, and rewrites the page. */
await main(async () => {
  const folder = mkdtempSync(join(tmpdir(), "farpool-coverage-"));
  try {
    await runOrFail({
      command: "vitest",
      arguments: ["run", "--project", "e2e"],
      environment: { FARPOOL_COVERAGE: folder },
      log: "coverage",
    });
    const names = new Set(
      readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), "utf8").trim().split("\n")),
    );
    names.delete("");
    const list = [...names].toSorted();
    writeFileSync(join(root, "docs", "coverage-executed.json"), `${JSON.stringify(list, null, 2)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  await runOrFail({ command: "node", arguments: ["scripts/generate.ts"], log: "coverage-page" });
});
