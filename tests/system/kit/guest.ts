import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execute, waitFor, type ProgramResult } from "../../e2e/kit/program.ts";
import { dist, root as repository } from "../../../scripts/repository.ts";
import { debianRoot, must } from "./debian.ts";

/** A client machine: Debian with a systemd of its own, on a network that survives its reboots. */
export interface Guest {
  readonly root: string;
  /** A command as root, without a session. */
  run(words: readonly string[], input?: string): Promise<ProgramResult>;
  /** The same; what it printed. Fails when it failed. */
  output(...words: readonly string[]): Promise<string>;
  /** A line in a login shell of a user. */
  login(user: string, line: string): Promise<ProgramResult>;
  /** `ssh HOST LINE`: no login shell. */
  ssh(user: string, line: string): Promise<ProgramResult>;
  /** Reboots, and waits until it is up again. */
  reboot(): Promise<void>;
  /** Writes a file that all may read. */
  write(path: string, text: string): Promise<void>;
  /** `down` is a pulled cable. */
  cable(state: "up" | "down"): void;
  /** A network that loses everything and says nothing of it. */
  blackHole(state: "begins" | "ends"): void;
  /** The whole machine stands still, as a closed laptop does. */
  suspend(state: "FROZEN" | "THAWED"): void;
  stop(): Promise<void>;
}

const PACKAGES = [
  ...["systemd", "systemd-sysv", "dbus", "libpam-systemd", "dbus-user-session", "openssh-server"],
  ...["sudo", "cron", "polkitd", "iproute2", "tmux", "python3"],
];
const LATER = ["python3-ipykernel"];
const USERS = ["dev1", "dev2"];
/** The pool listens on the first, the guest has the second. */
export const POOL_ADDRESS = "10.77.0.1";
const GUEST_ADDRESS = "10.77.0.2";
const NAMESPACE = "farpool-client";
const LINK = "farpool-cl";
const FREEZER = `/sys/fs/cgroup/freezer/${NAMESPACE}`;

export async function startGuest(): Promise<Guest> {
  const folder = mkdtempSync(join(tmpdir(), "farpool-guest-"));
  chmodSync(folder, 0o755);
  const root = join(folder, "root");
  const key = join(folder, "key");
  must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]);
  must(["cp", "-a", "--reflink=auto", debianRoot("bookworm", PACKAGES, LATER), root]);
  prepareRoot(root, key);
  connectNetwork();
  const loop = bootLoop(root, folder);

  const enter = (): readonly string[] => [
    ...[
      "env",
      "-i",
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "TERM=dumb",
      "LANG=C.UTF-8",
    ],
    ...["nsenter", "-t", leader(folder), "-a", "--"],
  ];
  const guest: Guest = {
    root,
    run: (words, input) => execute([...enter(), ...words], input === undefined ? {} : { input }),
    async output(...words) {
      const { status, stdout, stderr } = await guest.run(words);
      if (status !== 0)
        throw new Error(`${words.join(" ")} ended with ${status} on the client:\n${stdout}${stderr}`);
      return stdout;
    },
    login: (user, line) => execute([...enter(), "su", "-l", user, "-c", line]),
    ssh: (user, line) =>
      execute([
        ...["ssh", "-q", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
        ...[`${user}@${GUEST_ADDRESS}`, line],
      ]),
    async reboot() {
      const before = leader(folder);
      await guest.run(["systemctl", "reboot"]);
      await waitFor("the guest boots again", () => (leader(folder) === before ? undefined : true), 60_000);
      await untilUp(guest);
    },
    async write(path, text) {
      const { status, stderr } = await guest.run(["tee", path], text);
      if (status !== 0) throw new Error(`${path} could not be written: ${stderr}`);
    },
    cable: (state) => must(["ip", "link", "set", LINK, state]),
    blackHole(state) {
      const verb = state === "begins" ? "add" : "del";
      must(["ip", "route", verb, "blackhole", `${GUEST_ADDRESS}/32`]);
      must(["ip", "-n", NAMESPACE, "route", verb, "blackhole", `${POOL_ADDRESS}/32`]);
    },
    suspend: (state) => writeFileSync(join(FREEZER, "freezer.state"), state),
    async stop() {
      await guest.run(["systemctl", "poweroff"]).catch(() => undefined);
      await new Promise<void>((resolve) => {
        if (loop.exitCode !== null || loop.signalCode !== null) return resolve();
        loop.once("exit", () => resolve());
        setTimeout(() => loop.kill("SIGKILL"), 30_000).unref();
      });
      disconnectNetwork();
      rmdirSync(FREEZER);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await untilUp(guest);
  return guest;
}

async function untilUp(guest: Guest): Promise<void> {
  await waitFor(
    "the guest is up",
    async () => {
      try {
        const { stdout } = await guest.run(["systemctl", "is-system-running", "--wait"]);
        return /running|degraded/.test(stdout) ? true : undefined;
      } catch {
        return undefined;
      }
    },
    60_000,
  );
}

function prepareRoot(root: string, key: string): void {
  const installed = join(root, "opt/farpool");
  mkdirSync(installed, { recursive: true });
  // As a tarball would bring it: Node, our programs, examples.
  cpSync(dist, join(installed, "dist"), { recursive: true, verbatimSymlinks: true });
  cpSync(join(repository, "tests/programs"), join(installed, "programs"), { recursive: true });
  copyFileSync(process.execPath, join(installed, "node"));
  chmodSync(join(installed, "node"), 0o755);
  const launcher = join(root, "usr/local/bin/farpool");
  writeFileSync(launcher, '#!/bin/sh\nexec /opt/farpool/node /opt/farpool/dist/cli/farpool.mjs "$@"\n');
  chmodSync(launcher, 0o755);
  for (const user of USERS) {
    must(["chroot", root, "useradd", "-m", "-s", "/bin/bash", user]);
    const folder = join(root, "home", user, ".ssh");
    mkdirSync(folder, { mode: 0o700 });
    copyFileSync(`${key}.pub`, join(folder, "authorized_keys"));
    must(["chroot", root, "chown", "-R", `${user}:${user}`, `/home/${user}/.ssh`]);
  }
  writeFileSync(join(root, "etc/sudoers.d/farpool-test"), "dev1 ALL=(ALL) NOPASSWD: ALL\n", { mode: 0o440 });
  writeFileSync(join(root, "etc/hostname"), "ws-17\n");
}

function connectNetwork(): void {
  disconnectNetwork();
  must(["ip", "netns", "add", NAMESPACE]);
  must(["ip", "link", "add", LINK, "type", "veth", "peer", "name", "host0", "netns", NAMESPACE]);
  must(["ip", "addr", "add", `${POOL_ADDRESS}/24`, "dev", LINK]);
  must(["ip", "link", "set", LINK, "up"]);
  must(["ip", "-n", NAMESPACE, "addr", "add", `${GUEST_ADDRESS}/24`, "dev", "host0"]);
  must(["ip", "-n", NAMESPACE, "link", "set", "host0", "up"]);
  must(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"]);
}

function disconnectNetwork(): void {
  spawnSync("ip", ["link", "del", LINK]);
  spawnSync("ip", ["netns", "del", NAMESPACE]);
}

/** Boots, and boots again after each reboot of the guest (133). */
function bootLoop(root: string, folder: string): ChildProcess {
  const nspawn = [
    ...["systemd-nspawn", "-q", "-D", root, "-M", NAMESPACE, "--register=no", "--keep-unit"],
    ...["--link-journal=no", `--network-namespace-path=/run/netns/${NAMESPACE}`, "-b"],
  ].join(" ");
  mkdirSync(FREEZER, { recursive: true });
  const script = `echo $$ > ${FREEZER}/cgroup.procs; while :; do ${nspawn} </dev/null & echo $! > ${folder}/pid; wait $!; rc=$?; [ $rc = 133 ] || exit $rc; done`;
  return spawn("sh", ["-c", script], { stdio: "ignore", detached: true });
}

/** The guest's first process; it changes at every boot. */
function leader(folder: string): string {
  try {
    const nspawn = readFileSync(join(folder, "pid"), "utf8").trim();
    return readFileSync(`/proc/${nspawn}/task/${nspawn}/children`, "utf8").trim().split(" ")[0] ?? "";
  } catch {
    return "";
  }
}
