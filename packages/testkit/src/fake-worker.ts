import { readFileSync } from "node:fs";

/** A stand-in for `farpool-worker inventory --driver FILE`: the "driver" is a file with the inventory in it. */
const [command, , driver] = process.argv.slice(2);
try {
  if (command !== "inventory" || driver === undefined) throw new Error("usage: inventory --driver FILE");
  const text = readFileSync(driver, "utf8");
  JSON.parse(text);
  process.stdout.write(text);
} catch (error) {
  process.stderr.write(`farpool-worker: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 69;
}
