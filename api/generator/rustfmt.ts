/** Formats emitted Rust with the repository's rustfmt settings. */

import { execFileSync } from "node:child_process";
import { join } from "node:path";

export interface Output {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
}

/** Rust files are formatted, others pass through. Through stdin, so that rustfmt does not look for modules. */
export function formatRust(root: string, outputs: readonly Output[]): readonly Output[] {
  const options = ["--edition", "2024", "--config-path", join(root, "rustfmt.toml")];
  return outputs.map(({ path, text }) =>
    path.endsWith(".rs")
      ? {
          path,
          text: execFileSync("rustfmt", options, { input: text, encoding: "utf8", maxBuffer: 1 << 26 }),
        }
      : { path, text },
  );
}
