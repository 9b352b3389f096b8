import { parseFilter, parseMemory, parseShare } from "@farpool/contract";
import { completed, defineCommand, flag, value, values } from "../core/command.ts";
import {
  labelPair,
  lifetimeMs,
  projectName,
  sessionName,
  waitMs,
  wholeNumber,
} from "../core/parse-values.ts";

export const sessionOptions = {
  count: value("-n, --num-gpus <count>", "how many GPUs (default: 1)", wholeNumber("-n", 1, 100_000)),
  share: value("-p, --partial <share>", "a share of each GPU's memory, 0 < share ≤ 1", parseShare),
  memory: value(
    "-m, --memory <size>",
    "an amount of each GPU's memory: MiB, or with a unit (4GiB, 4GB)",
    parseMemory,
  ),
  wait: value(
    "--wait <duration>",
    "how long to wait for GPUs: 0, 30s, 10m (default: as long as it takes)",
    waitMs,
  ),
  filters: values(
    "--filter <filter>",
    "only GPUs that have it, as 'gpu.memory>=40GiB' or 'gpu.name=*H200*'; repeatable",
    parseFilter,
  ),
  priority: value(
    "--priority <number>",
    "before others who wait, 0 to 100 (default: 50, the highest that everybody may have)",
    wholeNumber("--priority", 0, 100),
  ),
  isSpread: flag("--spread-servers", "GPUs of several servers will do"),
  name: value("--name <name>", "a name for the session", sessionName),
  project: value("--project <name>", "the project that it is for", projectName),
  labels: values("--label <name=value>", "a label of the session; may be given several times", labelPair),
  idleTimeout: value(
    "--idle-timeout <duration>",
    "end it after so long without a kernel, copy or call (default: never, or as policies say)",
    lifetimeMs("--idle-timeout"),
  ),
  maxDuration: value(
    "--max-duration <duration>",
    "end it so long after it was granted (default: never, or as policies say); a short one may start sooner",
    lifetimeMs("--max-duration"),
  ),
  isNew: flag("--new", "take a session of its own, even inside 'farpool shell'"),
  isVerbose: flag("-v, --verbose", "say what happens, in detail, and also when stderr is no terminal"),
  isQuiet: flag("-q, --quiet", "say nothing but errors"),
} as const;

export const runCommand = defineCommand({
  name: "run",
  summary: "run a program with GPUs of the pool",
  arguments: "[command...]",
  passThrough: true,
  options: {
    ...sessionOptions,
    summary: completed(value("--summary <file>", "write what happened to a file, as JSON", String), "file"),
  },
  candidates: "program",
  examples: [
    { line: "farpool run -n 1 -- ./vector-add", does: "with one whole GPU" },
    {
      line: "farpool run -n 2 -p 0.5 --wait 10m -- python train.py",
      does: "with half of two GPUs each, if they are free within ten minutes",
    },
    {
      line: "farpool run --filter 'gpu.memory>=40GiB' --max-duration 2h -- python train.py",
      does: "with a large GPU, for two hours at most",
    },
  ],
  details: [
    "The exit code is the program's, or 128 + the number of the signal that ended it. Of our own:",
    "64 usage, 69 pool unreachable or the size never fits, 75 waited long enough, 77 not permitted,",
    "126 the program cannot be executed, 127 there is no such program.",
  ].join("\n"),
  run: async ({ options, arguments: words }) => (await import("../run/run.ts")).run(options, words),
});

export const shellCommand = defineCommand({
  name: "shell",
  summary: "start a shell with GPUs of the pool; 'farpool run' in it uses the same ones",
  options: sessionOptions,
  run: async ({ options }) => (await import("../run/run.ts")).shell(options),
});
