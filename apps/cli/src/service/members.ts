import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import type { PeerCredentials } from "@farpool/os";

/** Accounts may be in a directory of the network: `getent` asks as the system does. */
const LOOKUP_TIMEOUT_MS = 2_000;
const GETENT_NOT_FOUND = 2;
/** An account that was added meanwhile is known after so long. */
const BELIEVED_MS = 30_000;

export interface Members {
  /** Why a process may not use the service's GPUs; undefined: it may. */
  refuse(peer: PeerCredentials): string | undefined;
  /** Reads the accounts' numbers again when that is due. */
  refresh(): Promise<void>;
  /** Who may, for people. */
  readonly description: string;
}

interface Allowed {
  readonly users: readonly string[];
  readonly groups: readonly string[];
  /** Whose service it is. */
  readonly owner: number;
  /** A person's own service is for nobody else. */
  readonly isPersonal: boolean;
}

/** The user of a process is the kernel's word, and so are its groups: not what a directory says about the account. */
export function createMembers({ users, groups, owner, isPersonal }: Allowed): Members {
  const uids = createNumbers("passwd", users);
  const gids = createNumbers("group", groups);
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<unknown> = Promise.resolve();
  const isForAll = !isPersonal && users.length === 0 && groups.length === 0;
  const description = isPersonal
    ? `user ${owner} alone`
    : isForAll
      ? "all users of this machine"
      : [...users.map((user) => `user ${user}`), ...groups.map((group) => `group ${group}`)].join(", ");

  return {
    description,
    refuse(peer) {
      const isMember = (uid: number): boolean => uid === 0 || uid === owner || uids.has(uid);
      if (isForAll || isMember(peer.uid)) return undefined;
      if (namespaceOwners(peer.pid).some((uid) => uid !== 0 && isMember(uid))) return undefined;
      if (!isPersonal && [peer.gid, ...groupsOf(peer.pid)].some((gid) => gids.has(gid))) return undefined;
      const hint = isPersonal
        ? "'farpool service install --user' makes one for this user"
        : "root changes it with 'farpool service install --system --allow-user NAME'";
      return `user ${peer.uid} may not use the GPUs of this machine's client service, which are for ${description}; hint: ${hint}`;
    },
    async refresh() {
      if (isForAll || isPersonal) return;
      if (performance.now() - readAt >= BELIEVED_MS) {
        readAt = performance.now();
        reading = Promise.all([uids.read(), gids.read()]);
      }
      // Also who asks meanwhile: before the first answer nobody is known.
      await reading;
    },
  };
}

/**
 * Whose container a process is in: an account may map its own number into a namespace of users, and nobody else's. The
 * accounts inside are hers.
 */
function namespaceOwners(pid: number): readonly number[] {
  return parseUidMap(readProcess(pid, "uid_map"));
}

/** Exported for its test: lines are `INSIDE OUTSIDE COUNT`, and single accounts are owners. */
export function parseUidMap(map: string): readonly number[] {
  return map
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([, outside, count]) => (count === 1 && outside !== undefined ? [outside] : []));
}

/** Additional groups of a living process; none where it is gone. */
function groupsOf(pid: number): readonly number[] {
  const line = /^Groups:(.*)$/m.exec(readProcess(pid, "status"))?.[1] ?? "";
  return line.split(/\s+/).filter(Boolean).map(Number);
}

function readProcess(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    // It has ended, and asks nothing any more.
    return "";
  }
}

interface Numbers {
  has(id: number): boolean;
  read(): Promise<void>;
}

/** What a directory that does not answer has said before holds. */
function createNumbers(database: "passwd" | "group", names: readonly string[]): Numbers {
  const known = new Map<string, number>();
  return {
    has: (id) => [...known.values()].includes(id),
    async read() {
      await Promise.all(
        names.map(async (name) => {
          const found = await lookUp(database, name);
          if (found === "none") known.delete(name);
          else if (found !== "unanswered") known.set(name, found);
        }),
      );
    },
  };
}

async function lookUp(database: "passwd" | "group", name: string): Promise<number | "none" | "unanswered"> {
  try {
    const { stdout } = await promisify(execFile)("getent", [database, name], { timeout: LOOKUP_TIMEOUT_MS });
    const id = Number(stdout.split(":")[2]);
    return Number.isInteger(id) ? id : "none";
  } catch (error) {
    const isUnknown = error instanceof Error && "code" in error && error.code === GETENT_NOT_FOUND;
    return isUnknown ? "none" : "unanswered";
  }
}
