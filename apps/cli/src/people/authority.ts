import { formatDuration, type AuthorityState } from "@farpool/contract";
import { counted, print, printJson, say } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export async function authority(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("authority", {}));
  if (isJson) printJson(answer);
  else print(answer.authority.trimEnd());
  return 0;
}

export async function authorityStatus(isJson: boolean): Promise<number> {
  const state = await withPool((client) => client.call("authorityState", {}));
  if (isJson) printJson(state);
  else print(page(state, Date.now()));
  return 0;
}

const ROLES: Readonly<Record<AuthorityState["authorities"][number]["role"], string>> = {
  presented: "signs what managers and workers show",
  spreading: "new: machines get to know it",
  retiring: "old: trusted until nothing of it is about",
};

function page({ authorities, rotation, managerCertificateExpiresAt }: AuthorityState, now: number): string {
  const left = (at: string): string => `${at} (in ${formatDuration(Math.max(0, Date.parse(at) - now))})`;
  return [
    ...authorities.flatMap(({ sha256, createdAt, expiresAt, role }) => [
      `authority  ${sha256}  ${ROLES[role]}`,
      `           made ${createdAt}, good until ${left(expiresAt)}`,
    ]),
    `manager    its certificate is good until ${left(managerCertificateExpiresAt)} and renews itself`,
    rotation === null ? "rotation   none is under way" : `rotation   ${describeRotation(rotation, now)}`,
  ].join("\n");
}

/** Where a change of authorities stands, in a sentence. */
export function describeRotation(rotation: NonNullable<AuthorityState["rotation"]>, now: number): string {
  const { phase, since, machines, olderSessions, dropsAt } = rotation;
  const known = `${machines.renewed} of ${counted(machines.total, "machine")} trust the new authority`;
  const without = machines.waiting.length === 0 ? "" : `, not yet ${machines.waiting.join(", ")}`;
  const sessions =
    olderSessions === 0 ? "" : `; ${counted(olderSessions, "session")} began before it was there`;
  if (phase === "spreading") return `spreading since ${since}: ${known}${without}${sessions}`;
  const left = dropsAt === null ? "" : ` for ${formatDuration(Math.max(0, Date.parse(dropsAt) - now))} more`;
  return `the new authority took over at ${since}; the old one is trusted${left}; ${known}${without}`;
}

export async function rotateAuthority(isJson: boolean): Promise<number> {
  const state = await withPool((client) => client.call("rotateAuthority", {}));
  if (isJson) {
    printJson(state);
    return 0;
  }
  say("the pool has a new certificate authority; both are trusted now");
  if (state.rotation !== null) say(describeRotation(state.rotation, Date.now()));
  say("'farpool admin ca status' shows how far it is, 'farpool admin ca finish' lets it take over");
  return 0;
}

export async function finishRotation(isJson: boolean, isForced: boolean): Promise<number> {
  const state = await withPool((client) => client.call("finishRotation", { body: { isForced } }));
  if (isJson) {
    printJson(state);
    return 0;
  }
  if (state.rotation !== null) say(describeRotation(state.rotation, Date.now()));
  say("join strings and sign-in links from before name the old authority: make new ones");
  say("files for FARPOOL_CA_FILE from before are to be made again: farpool admin ca > FILE");
  return 0;
}
