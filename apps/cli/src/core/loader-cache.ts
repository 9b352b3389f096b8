import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

const ANSWER_TIMEOUT_MS = 2_000;

/** Every 64-bit libcuda.so.1 that the loader's cache names, in its order. */
export function loaderCache(): string[] {
  for (const ldconfig of ["/sbin/ldconfig", "/usr/sbin/ldconfig", "/bin/ldconfig"]) {
    if (!existsSync(ldconfig)) continue;
    try {
      const text = execFileSync(ldconfig, ["-p"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
        timeout: ANSWER_TIMEOUT_MS,
      });
      return [...text.matchAll(/^\s*libcuda\.so\.1 \(.*x86-64.*\) => (.+)$/gm)].flatMap(
        (match) => match[1] ?? [],
      );
    } catch {
      return [];
    }
  }
  return [];
}
