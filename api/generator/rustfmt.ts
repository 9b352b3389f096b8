/** Formats emitted Rust with the repository's rustfmt settings. */

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export interface Output {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
}

/** All Rust files in one run of rustfmt; other files pass through. */
export function formatRust(root: string, outputs: readonly Output[]): readonly Output[] {
  const folder = mkdtempSync(join(tmpdir(), "farpool-generate-"));
  try {
    const rust = outputs.filter((output) => output.path.endsWith(".rs"));
    for (const output of rust) {
      mkdirSync(dirname(join(folder, output.path)), { recursive: true });
      writeFileSync(join(folder, output.path), output.text);
    }
    const config = join(root, "rustfmt.toml");
    const paths = rust.map((output) => join(folder, output.path));
    execFileSync("rustfmt", ["--edition", "2024", "--config-path", config, ...paths], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    return outputs.map((output) =>
      output.path.endsWith(".rs")
        ? { path: output.path, text: readFileSync(join(folder, output.path), "utf8") }
        : output,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}
