import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join, relative } from "node:path";
import { styleText } from "node:util";
import { formatBytes, formatGpus, type Session } from "@farpool/contract";
import { buildEverything } from "./build/everything.ts";
import { type DemoPool, startDemoPool } from "./demo/pool.ts";
import { SetupFailed, formatSeconds, main } from "./progress.ts";
import { examples, library, root } from "./repository.ts";

interface Ran {
  readonly stdout: string;
  readonly seconds: number;
}

let foreground: ChildProcess | undefined;
const program = relative(root, join(examples, "matrix-multiply"));

await main(async () => {
  heading("Farpool: an unmodified CUDA program computes on a GPU of a pool");
  await buildEverything();
  await using pool = await startDemoPool();
  // Ctrl-C and TERM end the command that runs in the foreground; the pool is then ended as after a success.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => foreground?.kill(signal));

  const { gpu } = pool;
  say(
    "pool",
    `1 server, ${formatGpus([{ name: gpu.name, totalBytes: gpu.memoryTotalBytes, limitBytes: null }])}`,
  );
  if (gpu.simulated) say("", "(no NVIDIA GPU was found: CPU cores stand in for one)");
  say("program", `${program}, built by nvcc from examples/matrix-multiply.cu`);

  const pooled = await show(["./farpool", "run", "-n", "1", "--", program, "256"], pool.environment);
  const session = await lastSession(pool);
  explain(session, pooled);

  heading("The same program without the pool");
  const driver = gpu.simulated ? { LD_LIBRARY_PATH: relative(root, dirname(library.simgpu)) } : {};
  const direct = await show([program, "256"], { ...process.env, ...driver }, driver);
  if (direct.stdout !== pooled.stdout) {
    throw new SetupFailed(
      "the two outputs differ",
      "this is a bug in Farpool: CONTRIBUTING.md says how to report it",
    );
  }
  say("output", "the same, byte for byte");
  say("time", `${formatSeconds(direct.seconds)} without, ${formatSeconds(pooled.seconds)} with the pool`);

  heading("Where to look next");
  say("./farpool up", "a pool on this machine that stays; ./farpool --help lists what to do with it");
  say("README.md", "a first session, step by step");
  say("examples/", "the CUDA programs");
  say("ARCHITECTURE.md", "how it works");
});

/** Runs a command as a person would see it: the command line, then its output. */
async function show(
  words: readonly [string, ...string[]],
  environment: NodeJS.ProcessEnv,
  shown: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  const prefix = Object.entries(shown).map(([name, value]) => `${name}=${value}`);
  process.stdout.write(`\n$ ${[...prefix, ...words].join(" ")}\n`);
  const started = performance.now();
  const child = spawn(words[0], words.slice(1), {
    cwd: root,
    env: environment,
    stdio: ["ignore", "pipe", "inherit"],
  });
  foreground = child;
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    process.stdout.write(text);
  });
  const status = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
  if (status !== 0) {
    throw new SetupFailed(
      `${words.join(" ")} ended with status ${status}`,
      "the pool's log is .cache/logs/demo-pool.log",
    );
  }
  return { stdout, seconds: (performance.now() - started) / 1000 };
}

/** The session that just ended; its last numbers arrive a moment after the program has gone. */
async function lastSession(pool: DemoPool): Promise<Session> {
  const deadline = Date.now() + 5000;
  for (;;) {
    const { sessions } = await pool.client.call("listSessions", { query: { ended: 1 } });
    const session = sessions.find((candidate) => candidate.state === "ended");
    if (session !== undefined && (session.releasedAt !== null || Date.now() > deadline)) return session;
    if (Date.now() > deadline) throw new Error("the pool knows of no session that ended");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function explain(session: Session, ran: Ran): void {
  const { usage } = session;
  const parts = session.gpus.map((gpu) => ({
    name: gpu.name,
    totalBytes: gpu.memoryTotalBytes,
    limitBytes: gpu.memoryLimitBytes,
  }));
  const sent = usage.calls - usage.roundTrips;
  heading("What happened");
  say("GPU", `${formatGpus(parts)} on ${session.serverName ?? "this machine"}, session ${session.id}`);
  say("time", `${formatSeconds(ran.seconds)} in all, GPU busy ${formatSeconds(usage.busyMs / 1000)}`);
  say("CUDA calls", `${usage.calls + usage.localCalls} in ${usage.processes} process, of which`);
  say("", `${usage.localCalls} were answered inside the program's own process,`);
  say("", `${sent} were sent to the server without waiting,`);
  say("", `${usage.roundTrips} were round trips: the program waited for an answer`);
  say("kernels", `${usage.kernelLaunches} launched`);
  say("bytes", `${formatBytes(usage.bytesReceived)} to the server, ${formatBytes(usage.bytesSent)} back`);
  say("GPU memory", `${formatBytes(usage.memoryPeakBytes)} at most`);
}

function heading(text: string): void {
  process.stdout.write(`\n${styleText("bold", text)}\n`);
}

function say(label: string, text: string): void {
  process.stdout.write(`  ${label.padEnd(17)}${text}\n`);
}
