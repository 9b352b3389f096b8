import { defineCommand, flag } from "../core/command.ts";

export const jsonOption = { isJson: flag("--json", "print JSON") } as const;

export const statusCommand = defineCommand({
  name: "status",
  summary: "the pool, this machine's client service, your sessions and the queue",
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
  summary: "all GPUs with their sessions and used memory; inside a session its own, as nvidia-smi shows them",
  arguments: "[options...]",
  passThrough: true,
  options: { ...jsonOption, isPool: flag("--pool", "those of the pool, also inside a session") },
  examples: [
    { line: "farpool smi", does: "the whole pool, or inside 'farpool shell' the session" },
    {
      line: "farpool smi -- --query-gpu=name,memory.used --format=csv",
      does: "inside a session: what follows -- is nvidia-smi's",
    },
  ],
  run: async ({ options, arguments: words }) => {
    const { smi, smiOfSession } = await import("../pool/smi.ts");
    const isInside = (process.env["FARPOOL_SESSION"] ?? "") !== "" && !options.isJson && !options.isPool;
    return isInside ? smiOfSession(words) : smi(options.isJson, words);
  },
});
