import { chmodSync } from "node:fs";
import { join } from "node:path";
import { wheelFolder } from "./wheels.ts";

export interface Zig {
  readonly cargoZigbuild: string;
  readonly zig: string;
}

/** cargo-zigbuild and the zig that links for an old glibc (ADR 7). */
export async function zig(): Promise<Zig> {
  const folder = await wheelFolder({
    folder: "zigbuild-0.24.0-zig-0.15.2",
    wheels: [
      {
        name: "cargo-zigbuild",
        version: "0.24.0",
        sha256: "484412e39e4c6039474535ce97ee75a22bab22d58233056f8ec8a8f9034bb957",
      },
      {
        name: "ziglang",
        version: "0.15.2",
        sha256: "806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130",
      },
    ],
    finish: (contents) => {
      chmodSync(join(contents, "bin", "cargo-zigbuild"), 0o755);
      chmodSync(join(contents, "ziglang", "zig"), 0o755);
    },
  });
  return { cargoZigbuild: join(folder, "bin", "cargo-zigbuild"), zig: join(folder, "ziglang", "zig") };
}
