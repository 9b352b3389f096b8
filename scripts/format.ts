import { runOrFail } from "./process.ts";
import { main } from "./progress.ts";

await main(async () => {
  await runOrFail({ command: "oxfmt", arguments: [], log: "format-oxfmt" });
  await runOrFail({ command: "cargo", arguments: ["fmt", "--all"], log: "format-rustfmt" });
});
