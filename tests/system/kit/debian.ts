import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { root as repository } from "../../../scripts/repository.ts";

/**
 * The files of a Debian; made once for a release and lists of packages. Nobody changes them. `later` are those that
 * debootstrap cannot configure in an order of its own.
 */
export function debianRoot(
  release: "bookworm" | "bullseye",
  packages: readonly string[],
  later: readonly string[] = [],
): string {
  const name = createHash("sha256")
    .update([...packages, ...later].join(" "))
    .digest("hex")
    .slice(0, 12);
  const made = join(repository, ".cache/system", `${release}-${name}`);
  if (existsSync(made)) return made;
  mkdirSync(dirname(made), { recursive: true });
  const fresh = `${made}.${process.pid}`;
  must(["debootstrap", "--variant=minbase", `--include=${packages.join(",")}`, release, fresh]);
  if (later.length > 0) {
    const install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", ...later];
    copyFileSync("/etc/resolv.conf", join(fresh, "etc/resolv.conf"));
    must(["chroot", fresh, "apt-get", "update", "-qq"]);
    must(["chroot", fresh, "env", "DEBIAN_FRONTEND=noninteractive", ...install]);
    must(["chroot", fresh, "apt-get", "clean"]);
  }
  renameSync(fresh, made);
  return made;
}

/** Runs a program to its end; fails with what it said when it fails. */
export function must(words: readonly string[]): void {
  const [command = "", ...rest] = words;
  const done = spawnSync(command, rest, { encoding: "utf8", env: { ...process.env, LC_ALL: "C" } });
  if (done.status === 0) return;
  throw new Error(
    `${words.join(" ")}: ${done.error?.message ?? `${done.stdout}${done.stderr}`.slice(-2_000)}`,
  );
}
