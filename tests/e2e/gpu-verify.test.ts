import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { root } from "../../scripts/repository.ts";
import { execute } from "./kit/program.ts";

const verify = join(root, "scripts", "gpu", "verify.sh");
const prepared = join(root, "target", "gpu-verify");

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "farpool-gpu-verify-"));
  const result = await execute([process.execPath, join(root, "scripts", "gpu", "prepare.ts"), "--built"]);
  if (result.status !== 0) throw new Error(result.stderr);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("scripts/gpu/verify.sh --simulated", () => {
  it("compares programs natively and through a pool over both transports", async () => {
    const results = join(folder, "results.md");
    const only = "example-vector-add,errors-memory,graph-nodes";
    const words = [verify, "--simulated", "--only", only, "--results", results];
    const result = await execute(words);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatch(/^\d+ passed, 0 failed, \d+ skipped/m);
    const table = readFileSync(results, "utf8");
    for (const check of ["example-vector-add", "example-vector-add-shared", "errors-memory"])
      expect(table).toMatch(new RegExp(`^\\| ${check} \\| pass \\| pass \\| pass \\|`, "m"));
  });

  it("fails when a program's output differs through the pool", async () => {
    const kit = join(folder, "kit");
    mkdirSync(join(kit, "examples"), { recursive: true });
    for (const part of ["bin", "lib", "programs", "commit"])
      symlinkSync(join(prepared, part), join(kit, part));
    const program = join(kit, "examples", "differs");
    writeFileSync(program, '#!/bin/sh\necho "${FARPOOL_SESSION:+not }native"\n');
    chmodSync(program, 0o755);
    const words = [verify, "--simulated", "--only", "example-", "--results", join(folder, "failed.md")];
    const result = await execute(words, { environment: { FARPOOL_GPU_KIT: kit } });

    expect(result.status).toBe(1);
    expect(result.stdout).toContain("FAILED example-differs (tcp): differs from native");
    expect(result.stdout).toMatch(/^1 passed, 2 failed, 0 skipped$/m);
  });
});
