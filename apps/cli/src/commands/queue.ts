import { defineCommand } from "../core/command.ts";
import { jsonOption } from "./pool.ts";

export const queueCommand = defineCommand({
  name: "queue",
  summary: "who waits for GPUs: in which order, since when, until when probably, and why",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/queue.ts")).queue(options.isJson),
});
