import { defineCommand, flag } from "../core/command.ts";

export const jsonOption = { isJson: flag("--json", "print JSON") } as const;

export const statusCommand = defineCommand({
  name: "status",
  summary: "the pool, your sessions and the queue",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/status.ts")).status(options.isJson),
});

export const gpusCommand = defineCommand({
  name: "gpus",
  summary: "all GPUs and what is free of them",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/gpus.ts")).gpus(options.isJson),
});

export const smiCommand = defineCommand({
  name: "smi",
  summary: "all GPUs with their sessions and used memory, in the manner of nvidia-smi",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/smi.ts")).smi(options.isJson),
});
