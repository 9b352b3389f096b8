import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findInstallation } from "@farpool/layout";
import * as z from "zod";
import { fail, pass, warning, type Check } from "../doctor/check.ts";

const NAME = "throughput";
/** The largest measurement needs a quarter of it. */
const MEMORY_MIB = "256";
const PATIENCE_MS = 120_000;
const ROUND_TRIP = "DtoH 4 B";
const CASES = {
  [ROUND_TRIP]: "round trip",
  "bulk HtoD 16 MiB": "to the GPU",
  "bulk DtoH 16 MiB": "from the GPU",
};

const resultSchema = z.object({
  device: z.string(),
  cases: z.array(
    z.object({
      name: z.string(),
      unit: z.string(),
      series: z.array(z.object({ way: z.string(), median: z.number() })),
    }),
  ),
});

/** Calls and copies through the pool to one server, with a slice of a GPU and as any program does them: whatever `run` uses. */
export async function measureThroughput(server: string): Promise<Check> {
  const bench = join(dirname(findInstallation().worker), "farpool-bench");
  if (!existsSync(bench))
    return warning(NAME, `${bench} is missing`, "in a checkout, 'npm run build' builds it");
  const folder = mkdtempSync(join(tmpdir(), "farpool-health-"));
  try {
    const result = join(folder, "result.json");
    const words = [
      ...[...process.execArgv, process.argv[1] ?? "", "run", "-q", "--new", "-m", MEMORY_MIB, "--wait", "0"],
      ...["--filter", `server.name=${server}`],
      ...["--", bench, "--smoke", "--only", Object.keys(CASES).join(","), "--json", result],
    ];
    const { code, text } = await run(words);
    if (code === 75)
      return warning(
        NAME,
        "not measured: none of its GPUs has 256 MiB free now",
        "try again when a session has ended",
      );
    if (code !== 0)
      return fail(
        NAME,
        `the measurement ended with ${code}: ${text}`,
        "'farpool run -v -- PROGRAM' says more",
      );
    const { cases, device } = resultSchema.parse(JSON.parse(readFileSync(result, "utf8")));
    const figures = cases.flatMap(({ name, unit, series }) => {
      const title = Object.entries(CASES).find(([each]) => each === name)?.[1];
      const median = series.find(({ way }) => way === "cuda")?.median;
      return title === undefined || median === undefined ? [] : [`${title} ${median.toPrecision(3)} ${unit}`];
    });
    return pass(NAME, `${device}: ${figures.join(", ")}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(words: readonly string[]): Promise<{ readonly code: number; readonly text: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, words, {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: PATIENCE_MS,
    });
    let text = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    const finish = (code: number, sentence: string): void =>
      resolve({ code, text: sentence.trim().split("\n")[0] ?? "" });
    child.once("error", (error) => finish(70, error.message));
    child.once("close", (code) => finish(code ?? 70, text));
  });
}
