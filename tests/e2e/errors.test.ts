import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { farpool, root } from "../../scripts/repository.ts";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";
import { execute } from "./kit/program.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

const manual = readFileSync(join(root, "docs", "user", "errors.md"), "utf8");
const simulated = "Farpool Simulated GPU";

interface Case {
  readonly title: string;
  readonly words: readonly string[];
  readonly says: string;
  readonly hint?: string;
  readonly status: number;
}

const cases: readonly Case[] = [
  {
    title: "an unknown flag",
    words: ["run", "--gpu", "1", "--", "true"],
    says: "unknown option '--gpu'",
    hint: "'farpool run --help' lists its options",
    status: 64,
  },
  {
    title: "-p 1.5",
    words: ["run", "-n", "1", "-p", "1.5", "--", "true"],
    says: "-p takes a share above 0 and up to 1, not '1.5'",
    hint: "-p 0.5 is half of a GPU's memory; -n sets how many GPUs",
    status: 64,
  },
  {
    title: "-p with -m",
    words: ["run", "-n", "1", "-p", "0.5", "-m", "1024", "--", "true"],
    says: "-p and -m both say how large the GPUs are; one of them is enough",
    hint: "-p is a share of each GPU, -m an amount of memory",
    status: 64,
  },
  {
    title: "-m 0",
    words: ["run", "-n", "1", "-m", "0", "--", "true"],
    says: "-m takes an amount of memory from 1 MiB, not '0'",
    hint: "-m 4000 is 4000 MiB; units may be written: -m 4GiB, -m 4GB",
    status: 64,
  },
  {
    title: "a size above every GPU's",
    words: ["run", "-n", "1", "-m", "1TiB", "--", "true"],
    says: `1 GPU with 1 TiB: the largest GPU of the pool is 1 × ${simulated} (4 GiB)`,
    hint: "the largest value is -m 4096",
    status: 64,
  },
  {
    title: "-n 99",
    words: ["run", "-n", "99", "--", "true"],
    says: `99 GPUs on one server: the largest session of this size that the pool can ever grant is 1 × ${simulated}`,
    hint: "'farpool gpus' lists what there is",
    status: 69,
  },
  {
    title: "a program that does not exist",
    words: ["run", "-n", "1", "--", "./no-such-program"],
    says: "./no-such-program: there is no such program",
    status: 127,
  },
];

describe("farpool", () => {
  it.each(cases)("$title", async ({ words, says, hint, status }) => {
    const result = await pool.farpool(words);

    const stderr = `farpool: ${says}\n${hint === undefined ? "" : `hint: ${hint}\n`}`;
    expect(result).toMatchObject({ status, stdout: "", stderr });
    expect(manual).toContain(`farpool: ${says}`);
  });

  it("no pool reachable", async () => {
    const nowhere = join(pool.folder, "nowhere");
    const result = await execute([farpool, "run", "-n", "1", "--", "true"], {
      environment: { FARPOOL_STATE: nowhere },
    });

    expect(result).toMatchObject({
      status: 69,
      stdout: "",
      stderr: [
        `farpool: no pool runs here: there is no socket ${nowhere}/run/manager.sock`,
        "hint: 'farpool up' starts a pool on this machine; 'farpool doctor' looks for the cause\n",
      ].join("\n"),
    });
    expect(manual).toContain("farpool: no pool runs here: there is no socket …/run/manager.sock");
  });
});

describe("CUDA", () => {
  const ptx = (name: string): string => join(root, "tests", "programs", name);

  it("malformed PTX fails the module, and the log names the line", async () => {
    const words = [example("run-ptx"), ptx("malformed.ptx"), "broken"];
    const pooled = await pool.farpool(["run", "-n", "1", "--", ...words]);

    expect(pooled).toMatchObject({ status: 1, stderr: "" });
    expect(pooled.stdout).toContain("load: CUDA_ERROR_INVALID_PTX\n");
    expect(pooled.stdout).toMatch(/^log: .*line 9\b/m);
    expect(pooled.stdout).toBe((await runDirectly(words)).stdout);
  });

  it("an unsupported instruction is named with its line when the function is used", async () => {
    const words = [example("run-ptx"), ptx("unsupported.ptx"), "simd"];
    const pooled = await pool.farpool(["run", "-n", "1", "--", ...words]);

    expect(pooled).toMatchObject({ status: 1, stderr: "" });
    expect(pooled.stdout).toContain("load: CUDA_SUCCESS\n");
    expect(pooled.stdout).toMatch(/^log: .*line 10\b.*tex\.1d\.v4\.f32\.s32/m);
    expect(pooled.stdout).toMatch(/^(get|launch): CUDA_ERROR_NOT_SUPPORTED$/m);
    expect(pooled.stdout).toBe((await runDirectly(words)).stdout);
  });
});
