import { pino } from "pino";
import { startManager, type ManagerOptions } from "../../manager.ts";

/**
 * A manager for the fuzzer, in a process of its own: started with `--expose-gc` and its options as JSON. Answers each
 * message with the memory that is still in use after everything else was collected.
 */
const [options = "{}"] = process.argv.slice(2);
await startManager({
  ...(JSON.parse(options) as Omit<ManagerOptions, "logger">),
  logger: pino({ level: "error" }),
});

process.on("message", () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.({ bytes: heapUsed + external });
});
process.send?.({ ready: true });
