import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { runOrFail } from "../process.ts";
import { SetupFailed, step } from "../progress.ts";

interface Need {
  readonly what: string;
  readonly present: () => boolean;
  readonly debianPackage: string;
}

const needs: readonly Need[] = [
  { what: "a C compiler (cc)", present: () => runs("cc", ["--version"]), debianPackage: "gcc" },
  { what: "a C++ compiler (g++)", present: () => runs("g++", ["--version"]), debianPackage: "g++" },
  {
    what: "the C library's headers",
    present: () => existsSync("/usr/include/stdio.h"),
    debianPackage: "libc6-dev",
  },
  { what: "python3", present: () => runs("python3", ["--version"]), debianPackage: "python3" },
  {
    what: "pip for python3",
    present: () => runs("python3", ["-m", "pip", "--version"]),
    debianPackage: "python3-pip",
  },
  // Programs of the tests bring their own allocator and cryptography.
  {
    what: "jemalloc (libjemalloc.so.2)",
    present: () => hasLibrary("libjemalloc.so.2"),
    debianPackage: "libjemalloc2",
  },
  {
    what: "OpenSSL 3 (libcrypto.so.3)",
    present: () => hasLibrary("libcrypto.so.3"),
    debianPackage: "libssl3",
  },
  // Completions and manual pages are tried where they are used.
  { what: "zsh", present: () => runs("zsh", ["--version"]), debianPackage: "zsh" },
  { what: "fish", present: () => runs("fish", ["--version"]), debianPackage: "fish" },
  // Managers are tried on a PostgreSQL that is not ours.
  {
    what: "Debian's PostgreSQL",
    present: () => existsSync("/usr/lib/postgresql"),
    debianPackage: "postgresql",
  },
  { what: "mandoc", present: () => runs("which", ["mandoc"]), debianPackage: "mandoc" },
];

/** Checks for what we do not bring ourselves; on Debian and as root it is installed. */
export async function prepareMachine(): Promise<void> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new SetupFailed(
      `Farpool builds on Linux x86-64; this machine is ${process.platform} ${process.arch}`,
      "use a Linux x86-64 machine or container",
    );
  }
  const missing = needs.filter((need) => !need.present());
  if (missing.length > 0) await installDebianPackages(missing);
  prepareRust();
}

async function installDebianPackages(missing: readonly Need[]): Promise<void> {
  const packages = missing.map((need) => need.debianPackage);
  if (process.getuid?.() !== 0 || !runs("apt-get", ["--version"])) {
    throw new SetupFailed(
      `this machine lacks ${missing.map((need) => need.what).join(", ")}`,
      `install them first; on Debian and Ubuntu: sudo apt-get install ${packages.join(" ")}`,
    );
  }
  const environment = { DEBIAN_FRONTEND: "noninteractive" };
  await step(`Debian packages ${packages.join(", ")}`, async () => {
    await runOrFail({ command: "apt-get", arguments: ["update"], environment, log: "apt-update" });
    await runOrFail({
      command: "apt-get",
      arguments: ["install", "-y", "--no-install-recommends", ...packages],
      environment,
      log: "apt-install",
    });
  });
}

function prepareRust(): void {
  if (!runs("cargo", ["--version"])) {
    throw new SetupFailed(
      "this machine has no cargo",
      "install Rust from https://rustup.rs, then run this again",
    );
  }
  for (const [program, component] of [
    ["cargo-fmt", "rustfmt"],
    ["cargo-clippy", "clippy"],
  ] as const) {
    if (runs(program, ["--version"])) continue;
    if (!runs("rustup", ["component", "add", component])) {
      throw new SetupFailed(`this machine's Rust lacks ${component}`, `rustup component add ${component}`);
    }
  }
}

function hasLibrary(name: string): boolean {
  const known = spawnSync("/sbin/ldconfig", ["-p"], { encoding: "utf8" });
  return (known.stdout ?? "").includes(`${name} `);
}

function runs(command: string, parameters: readonly string[]): boolean {
  return spawnSync(command, parameters, { stdio: "ignore" }).status === 0;
}
