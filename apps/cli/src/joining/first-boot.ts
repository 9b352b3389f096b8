import { readFileSync, rmSync, statSync } from "node:fs";
import { FarpoolError, parseJoinString, type MachineRole } from "@farpool/contract";
import { readMembership, type Membership } from "@farpool/client-api";
import { poolFolders, type PoolFolders } from "@farpool/layout";
import { say } from "../core/output.ts";
import { filesOf, forget, join, type JoinOptions } from "./join.ts";
import { readMachineIdentity } from "./machine-identity.ts";

/**
 * For images: joins if this machine has not, and only then. What a copy of a machine that had joined finds is another machine's:
 * two that renew one certificate would both be locked out.
 */
export async function joinOnFirstBoot(options: JoinOptions, file: string, text: string): Promise<number> {
  if (text !== "")
    throw new FarpoolError("FARPOOL_USAGE", "the join string is in the file, or an argument, not both", {
      hint: `without --on-first-boot this machine joins now; else put the string into ${file}`,
    });
  const folders = poolFolders();
  const string = readString(file);
  const roles = string === undefined ? (["client", "server"] as const) : [parseJoinString(string).role];
  const found = roles.flatMap((role) => findJoined(role, folders));
  const copied = found.filter(({ membership }) => isOfAnother(membership));
  if (string === undefined) {
    const [first] = copied;
    if (first === undefined) return sayNothingToDo(found.length > 0, file);
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `this machine is a copy of the ${first.role} '${first.membership.name}', and there is no ${file} with a string to join with`,
      { hint: "'farpool leave --forget' drops the copied identity, then 'farpool join STRING'" },
    );
  }
  if (found.length > copied.length) return sayNothingToDo(true, file);
  for (const { role, membership } of copied) {
    forget(role, filesOf(role, folders), folders);
    say(`farpool: dropped the identity of the ${role} '${membership.name}', of which this machine is a copy`);
  }
  const code = await join(options, string);
  // It is for machines made of the image, not for whoever gets into one of them.
  if (code === 0) rmSync(file, { force: true });
  return code;
}

interface Joined {
  readonly role: MachineRole;
  readonly membership: Membership;
}

function findJoined(role: MachineRole, folders: PoolFolders): Joined[] {
  const membership = readMembership(filesOf(role, folders).membership);
  return membership === undefined ? [] : [{ role, membership }];
}

/** Of one that joined before this was noted nobody knows: it stays. */
function isOfAnother({ machine }: Membership): boolean {
  const own = readMachineIdentity();
  return machine !== null && own !== null && machine !== own;
}

function readString(file: string): string | undefined {
  const status = statSync(file, { throwIfNoEntry: false });
  if (status === undefined) return undefined;
  if ((status.mode & 0o077) !== 0) {
    const mode = (status.mode & 0o777).toString(8).padStart(4, "0");
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `others may read ${file}: it has mode ${mode}`, {
      hint: `with the string in it machines join the pool: chmod 600 ${file}`,
    });
  }
  const lines = readFileSync(file, "utf8").split("\n");
  const string = lines.map((line) => line.trim()).find((line) => line !== "" && !line.startsWith("#"));
  if (string !== undefined) return string;
  throw new FarpoolError("FARPOOL_USAGE", `${file} has no join string in it`, {
    hint: "'farpool admin tokens create --client --uses 100 --expires 90d' on the manager's machine prints one",
  });
}

function sayNothingToDo(hasJoined: boolean, file: string): number {
  if (hasJoined) {
    say("this machine has joined already");
    return 0;
  }
  throw new FarpoolError("FARPOOL_NOT_FOUND", `this machine has not joined, and there is no ${file}`, {
    hint: "put a join string into that file, with mode 0600, or give it to 'farpool join'",
  });
}
