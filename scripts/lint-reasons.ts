import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runOrFail } from "./process.ts";
import { main, write } from "./progress.ts";
import { root } from "./repository.ts";

/** Every `oxlint-disable` says why: `// oxlint-disable-next-line RULE -- reason`. */
await main(async () => {
  const listed = await runOrFail({
    command: "git",
    arguments: ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.ts", "*.tsx", "*.mjs"],
    log: "lint-reasons-files",
  });
  for (const file of listed.stdout
    .split("\0")
    .filter((name) => name !== "" && !name.includes("/generated/"))) {
    for (const [index, line] of readText(join(root, file)).split("\n").entries()) {
      if (!/(\/\/|\/\*)\s*(oxlint|eslint)-disable/.test(line) || / -- \S/.test(line)) continue;
      write(`${file}:${index + 1}: this exception gives no reason (… -- reason)`);
      process.exitCode = 1;
    }
  }
});

/** A file that git knows may be gone from the folder. */
function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
