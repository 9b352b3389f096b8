import { writeFileSync } from "node:fs";
import type { ManagerClient } from "@farpool/client-api";
import { FarpoolError, type PersonData, type PrivacySettings } from "@farpool/contract";
import { counted, print, printJson, say } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

const RESOLUTIONS = [10, 300, 3_600] as const;

/** All that the pool has of a person as one JSON document: on stdout, or in a file that only its owner reads. */
export async function exportPerson(output: string | undefined, name: string): Promise<number> {
  const data = await withPool(async (client) => {
    const person = await client.call("exportPerson", { query: { name } }, { timeoutMs: 120_000 });
    return { ...person, samples: await samplesOf(client, person) };
  });
  if (output === undefined) {
    printJson(data);
    return 0;
  }
  try {
    // Nobody's file is overwritten, and nobody else reads this one.
    writeFileSync(output, `${JSON.stringify(data, null, 2)}\n`, { mode: 0o600, flag: "wx" });
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `${output} cannot be written (${code})`, {
      hint: code === "EEXIST" ? "there is such a file already: -o names another one" : null,
      cause,
    });
  }
  say(
    `${output}: ${counted(data.sessions.length, "session")}, ${counted(data.usageRecords.length, "usage record")}, ${counted(data.audit.length, "audit line")}, ${counted(data.samples.length, "sample")} of ${data.name}`,
  );
  return 0;
}

async function samplesOf(client: ManagerClient, { sessions }: PersonData) {
  const all = [];
  for (const { id: sessionId, processes } of sessions) {
    if (processes.length === 0) continue;
    for (const resolutionSeconds of RESOLUTIONS) {
      const { samples } = await client.call("sessionSamples", {
        params: { sessionId },
        query: { resolutionSeconds },
      });
      all.push(...samples.map((sample) => ({ sessionId, resolutionSeconds, ...sample })));
    }
  }
  return all;
}

export async function pseudonymise(isJson: boolean, name: string): Promise<number> {
  const done = await withPool((client) =>
    client.call("pseudonymisePerson", { body: { name } }, { timeoutMs: 120_000 }),
  );
  if (isJson) {
    printJson(done);
    return 0;
  }
  const what = done.changed.map(({ what: kind, count }) => `${count} ${kind}`).join(", ");
  say(`${name} is ${done.pseudonym} from now on; changed: ${what}`);
  say("logs of the manager and of servers, backups and files that were exported before still have the name");
  return 0;
}

interface PrivacyOptions {
  readonly isJson: boolean;
  readonly programs: "on" | "off" | undefined;
  readonly accounts: "on" | "off" | undefined;
}

export async function privacy({ isJson, programs, accounts }: PrivacyOptions): Promise<number> {
  const changes = {
    ...(programs !== undefined && { tellsPrograms: programs === "on" }),
    ...(accounts !== undefined && { tellsAccounts: accounts === "on" }),
  };
  const settings = await withPool((client) =>
    Object.keys(changes).length === 0
      ? client.call("privacySettings", {})
      : client.call("changePrivacySettings", { body: changes }),
  );
  if (isJson) printJson(settings);
  else print(page(settings));
  return 0;
}

function page({ tellsPrograms, tellsAccounts }: PrivacySettings): string {
  return [
    `programs  ${tellsPrograms ? "usage reports name them" : "off: usage reports do not name them, and new ones are not stored"}`,
    `accounts  ${tellsAccounts ? "usage reports name them" : "off: usage reports say *@CLIENT; users of the pool are named"}`,
  ].join("\n");
}
