import { completed, defineCommand, flag, value } from "../core/command.ts";
import { jsonOption } from "./pool.ts";

export const healthCommand = defineCommand({
  name: "health",
  summary: "check the pool: manager, database, servers, GPUs, and the way to them",
  options: {
    ...jsonOption,
    isMeasured: flag(
      "--measure",
      "also measure calls and copies to each server, with a slice of a GPU for some seconds",
    ),
  },
  details: [
    "Each line is ok, a warning or a FAIL, and what is not ok says what to do. The exit code is 0 when nothing failed, else 69.",
    "'farpool doctor' checks this machine alone, and what keeps a program of it from its GPUs.",
  ].join("\n"),
  run: async ({ options }) => (await import("../health/health.ts")).health(options),
});

export const supportBundleCommand = defineCommand({
  name: "support-bundle",
  summary: "gather versions, logs, settings and health in an archive, without secrets",
  options: {
    ...jsonOption,
    output: completed(
      value("-o, --output <file>", "where to write it (default: farpool-support-TIME.tar.gz)", String),
      "file",
    ),
    state: completed(
      value("--state <folder>", "where the pool keeps its state (also: FARPOOL_STATE)", String),
      "folder",
    ),
  },
  details: [
    "In it are the last megabytes of each log, names of machines, accounts and programs as the pool knows them, and no",
    "key, token or password: what looks like one is replaced, and so is each secret of this pool. Look before you send it:",
    "",
    "  tar -xzOf farpool-support-*.tar.gz | less",
  ].join("\n"),
  run: async ({ options }) => (await import("../health/support-bundle.ts")).supportBundle(options),
});
