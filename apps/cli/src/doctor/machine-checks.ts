import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Installation } from "@farpool/layout";
import { fail, pass, warning, type Check } from "./check.ts";

/** The shim uses no symbol of a newer one. */
const OLDEST_GLIBC = [2, 28] as const;
const LOADER = "/lib64/ld-linux-x86-64.so.2";

export function checkMachine(installation: Installation): Check[] {
  return [
    checkPlatform(),
    checkGlibc(),
    checkShim(join(installation.shimFolder, "libcuda.so.1")),
    checkVariables(installation.shimFolder),
  ];
}

function checkPlatform(): Check {
  const found = `${process.platform} on ${process.arch}`;
  if (process.platform === "linux" && process.arch === "x64") return pass("platform", found);
  return fail("platform", found, "farpool runs on Linux on x86-64");
}

function checkGlibc(): Check {
  const text = execQuietly("getconf", ["GNU_LIBC_VERSION"])?.trim() ?? "";
  const [major = 0, minor = 0] = text.replace("glibc ", "").split(".").map(Number);
  const oldest = OLDEST_GLIBC.join(".");
  if (!text.startsWith("glibc "))
    return fail(
      "glibc",
      "this system has no glibc",
      "programs for CUDA need glibc; musl systems cannot run them",
    );
  const isNewEnough = major > OLDEST_GLIBC[0] || (major === OLDEST_GLIBC[0] && minor >= OLDEST_GLIBC[1]);
  return isNewEnough
    ? pass("glibc", `${text} (${oldest} is needed)`)
    : fail("glibc", `${text}, ${oldest} is needed`, "use a newer distribution");
}

function checkShim(shim: string): Check {
  if (!existsSync(shim))
    return fail("shim", `${shim} is missing`, "in a checkout, 'npm run build' builds it");
  const listed = execQuietly(LOADER, ["--list", shim]);
  const missing = listed?.split("\n").filter((line) => line.includes("not found")) ?? [];
  if (listed === undefined || missing.length > 0) {
    return fail(
      "shim",
      `${shim} cannot be loaded${missing.length > 0 ? `: ${missing.join("; ").trim()}` : ""}`,
      "it was built for another system: build it here, or install the package",
    );
  }
  return pass("shim", `${shim} can be loaded`);
}

function checkVariables(shimFolder: string): Check {
  const path = process.env["LD_LIBRARY_PATH"];
  if (path === undefined || path === "") return pass("environment", "LD_LIBRARY_PATH is not set");
  const folders = path.split(":");
  if (folders.includes("")) {
    return warning(
      "environment",
      `LD_LIBRARY_PATH has an empty element: ${path}`,
      "an empty element means the current folder; remove it",
    );
  }
  const rival = folders.find((folder) => folder !== shimFolder && existsSync(join(folder, "libcuda.so.1")));
  if (rival === undefined || folders.indexOf(shimFolder) === 0)
    return pass("environment", `LD_LIBRARY_PATH is ${path}`);
  return warning(
    "environment",
    `LD_LIBRARY_PATH has another libcuda.so.1 in ${rival}`,
    "'farpool run' puts its own before it; programs started without it load that one",
  );
}

function execQuietly(file: string, words: readonly string[]): string | undefined {
  try {
    return execFileSync(file, words, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
    });
  } catch {
    return undefined;
  }
}
