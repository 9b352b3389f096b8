import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { expect, it } from "vitest";
import { root } from "../../scripts/repository.ts";
import { processesMentioning } from "./kit/processes.ts";
import { execute } from "./kit/program.ts";

function leftFolders(): readonly string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith("farpool-demo-"));
}

it("the demo shows what happened and leaves nothing behind", async () => {
  const before = leftFolders();
  const passed = ["CARGO_TARGET_DIR", "CARGO_HOME", "RUSTUP_HOME", "CUDA_HOME", "XDG_CACHE_HOME"];
  const environment = Object.fromEntries(
    passed.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
  const result = await execute(["node", "scripts/first.mjs", "demo"], { folder: root, environment });

  expect(result.stderr).not.toContain("farpool:");
  expect(result.status).toBe(0);
  expect(result.stdout).toContain("1 × ");
  expect(result.stdout).toMatch(/\d+ were round trips/);
  expect(result.stdout).toContain("the same, byte for byte");
  expect(leftFolders()).toEqual(before);
  expect(processesMentioning("farpool-demo-")).toEqual([]);
});
