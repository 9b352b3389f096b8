import { readFileSync, readdirSync, readlinkSync } from "node:fs";

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** Every living process (a zombie holds nothing) that mentions a text in its command line or environment. */
export function processesMentioning(text: string): readonly ProcessInfo[] {
  return allProcesses().filter(
    ({ pid, command }) => command.includes(text) || read(pid, "environ").includes(text),
  );
}

/** The process and everything below it. */
export function processTree(root: number): readonly ProcessInfo[] {
  const all = allProcesses();
  const found = all.filter(({ pid }) => pid === root);
  for (const parent of found) found.push(...all.filter((candidate) => candidate.parent === parent.pid));
  return found;
}

export function isAlive(pid: number): boolean {
  return stateOf(pid) !== undefined;
}

/** The inodes of a process's sockets, but for those that are its standard streams. */
export function openSockets(pid: number): readonly string[] {
  return list(`/proc/${pid}/fd`).flatMap((descriptor) => {
    const match = /^socket:\[(\d+)\]$/.exec(link(`/proc/${pid}/fd/${descriptor}`));
    return match?.[1] !== undefined && Number(descriptor) > 2 ? [match[1]] : [];
  });
}

/** The remote ports of a process's TCP connections. */
export function tcpPeers(pid: number): readonly number[] {
  const inodes = new Set(openSockets(pid));
  return `${read(pid, "net/tcp")}${read(pid, "net/tcp6")}`.split("\n").flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const port = fields[2]?.split(":")[1];
    return inodes.has(fields[9] ?? "") && port !== undefined ? [Number.parseInt(port, 16)] : [];
  });
}

function allProcesses(): readonly ProcessInfo[] {
  return list("/proc").flatMap((name) => {
    const pid = Number(name);
    const parent = Number.isInteger(pid) ? stateOf(pid)?.parent : undefined;
    if (parent === undefined) return [];
    return [{ pid, parent, command: read(pid, "cmdline").replaceAll("\0", " ").trim() }];
  });
}

function stateOf(pid: number): { parent: number } | undefined {
  const match = /^.*\) (\w) (\d+) /s.exec(read(pid, "stat"));
  if (match === null || match[1] === "Z" || match[1] === "X") return undefined;
  return { parent: Number(match[2]) };
}

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
