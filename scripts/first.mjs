// The first step of every `npm run …`: plain JavaScript for whatever Node the machine has (≥ 18).
// It installs the npm packages when they are missing or older than package-lock.json, then runs
// scripts/<task>.ts under the Node 24 that came with them.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const node = join(root, "node_modules", ".bin", "node");

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).packages;
  } catch {
    return undefined;
  }
}

/** npm writes node_modules/.package-lock.json as its last act, so an interrupted install has none. */
function installedPackagesMatch() {
  const wanted = readPackages(join(root, "package-lock.json"));
  const installed = readPackages(join(root, "node_modules", ".package-lock.json"));
  if (wanted === undefined || installed === undefined || !existsSync(node)) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (!path.startsWith("node_modules/")) return true;
    const present = installed[path];
    if (present === undefined) return entry.optional === true || entry.os !== undefined;
    return present.version === entry.version && present.link === entry.link;
  });
}

function installPackages() {
  // Under `npm run` this is npm's own program; a bare `npm` need not be the same one.
  const npm = process.env.npm_execpath;
  const [command, prefix] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
  process.stderr.write("farpool: installing the npm packages (npm ci)\n");
  const started = Date.now();
  const result = spawnSync(command, [...prefix, "ci", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (result.status !== 0) {
    process.stderr.write("farpool: npm ci failed; its output is above\n");
    process.exit(result.status ?? 1);
  }
  return Date.now() - started;
}

const [task, ...parameters] = process.argv.slice(2);
if (task === undefined || !existsSync(join(root, "scripts", `${task}.ts`))) {
  process.stderr.write(`farpool: no such task: ${task}\n`);
  process.exit(64);
}
const installMs = installedPackagesMatch() ? 0 : installPackages();

const child = spawn(node, [join(root, "scripts", `${task}.ts`), ...parameters], {
  cwd: root,
  stdio: "inherit",
  env: {
    ...process.env,
    PATH: `${join(root, "node_modules", ".bin")}:${process.env.PATH ?? ""}`,
    FARPOOL_SETUP_MS: String(installMs),
  },
});
// A terminal signals the whole group; a service manager signals only this process.
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
process.on("SIGINT", () => {});
child.on("error", (error) => {
  process.stderr.write(`farpool: cannot run ${node}: ${error.message}\n`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
