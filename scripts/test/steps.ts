import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildCli } from "../build/cli.ts";
import { buildExamples } from "../build/examples.ts";
import { buildAddOn, buildServerPrograms, buildShim } from "../build/native.ts";
import { type Command, CommandFailed, run } from "../process.ts";
import { logs } from "../repository.ts";
import { cudaToolkit } from "../setup/cuda-toolkit.ts";
import { prepareMachine } from "../setup/machine.ts";
import { nvmlTools } from "../setup/nvml-tools.ts";
import { zig } from "../setup/zig.ts";
import { type Counts, countCargo, countCheck, countVitest, settle } from "./counts.ts";

/** Minutes on two cores (issue 2). Areas are run and printed in this order. */
export const budgets = {
  "set-up": 10,
  native: 12,
  control: 8,
  system: 6,
  browser: 5,
  "bench smoke": 2,
} as const;

export type Area = keyof typeof budgets;

export interface Step {
  readonly area: Area;
  readonly name: string;
  /** Needs neither a build nor a running program: part of `npm run lint`. */
  readonly isStatic?: boolean;
  /** Does not start when a step of set-up failed. */
  readonly needsBuild?: boolean;
  readonly execute: () => Promise<StepResult>;
}

export interface StepResult extends Counts {
  /** What to read when it failed. */
  readonly output: string;
}

export const steps: readonly Step[] = [
  preparation("machine", prepareMachine),
  preparation("CUDA compiler", cudaToolkit),
  preparation("zig", zig),
  preparation("NVML's header and nvidia-ml-py", nvmlTools),
  preparation("build worker, acceptor and simulated GPU", buildServerPrograms),
  preparation("build the shim", buildShim),
  preparation("build the add-on of Node", buildAddOn),
  preparation("build the command line", buildCli),
  preparation("build CUDA programs", buildExamples),

  check("native", "generated code is current", "node scripts/generate.ts --check"),
  check("native", "rustfmt", "cargo fmt --all --check"),
  check("native", "clippy", "cargo clippy --workspace --all-targets --quiet -- -D warnings"),
  {
    area: "native",
    name: "cargo tests",
    execute: async () => {
      const outcome = await run(command("cargo-test", ["cargo", "test", "--workspace", "--no-fail-fast"]));
      const output = outcome.stdout + outcome.stderr;
      return { ...settle("cargo tests", outcome.status, countCargo(output)), output };
    },
  },

  check("control", "oxlint", "oxlint"),
  check("control", "lint exceptions have reasons", "node scripts/lint-reasons.ts"),
  check("control", "oxfmt", "oxfmt --check"),
  check("control", "types", "tsc -b"),
  check("control", "dead code", "knip"),
  check("control", "licences", "node scripts/licences.ts --check"),
  vitest("control", "unit tests", "unit"),
  vitest("control", "control plane tests", "control"),

  { ...vitest("system", "end-to-end tests", "e2e"), needsBuild: true },

  {
    ...check("bench smoke", "every measurement runs", "node scripts/bench.ts --smoke --built"),
    isStatic: false,
    needsBuild: true,
  },
];

function preparation(name: string, work: () => Promise<unknown>): Step {
  return {
    area: "set-up",
    name,
    execute: async () => {
      try {
        await work();
        return { ...countCheck(name, 0), output: "" };
      } catch (error) {
        const output = error instanceof CommandFailed ? error.message : String(error);
        return { ...countCheck(name, 1), output };
      }
    },
  };
}

function check(area: Area, name: string, line: string): Step {
  return {
    area,
    name,
    isStatic: true,
    execute: async () => {
      const outcome = await run(command(`check-${name.replaceAll(" ", "-")}`, line.split(" ")));
      return { ...countCheck(name, outcome.status), output: outcome.stdout + outcome.stderr };
    },
  };
}

function vitest(area: Area, name: string, project: string): Step {
  return {
    area,
    name,
    execute: async () => {
      const report = join(logs, `vitest-${project}.json`);
      rmSync(report, { force: true });
      const outcome = await run(
        command(`vitest-${project}`, [
          ...["vitest", "run", "--project", project, "--reporter=default", "--reporter=json"],
          `--outputFile.json=${report}`,
        ]),
      );
      const output = outcome.stdout + outcome.stderr;
      return { ...settle(name, outcome.status, readReport(report)), output };
    },
  };
}

function readReport(path: string): Counts {
  try {
    return countVitest(readFileSync(path, "utf8"));
  } catch {
    return { passed: 0, failed: 0, failures: [] };
  }
}

function command(log: string, [program = "", ...rest]: readonly string[]): Command {
  return { command: program, arguments: rest, log };
}
