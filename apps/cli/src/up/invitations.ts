import type { ManagerClient } from "@farpool/client-api";
import { FarpoolError } from "@farpool/contract";
import { say } from "../core/output.ts";

const FIRST_ADMINISTRATOR = "admin";
/** What `up` prints is for the machines at hand; 'admin tokens create' makes others. */
const INVITATION = { uses: 100, validSeconds: 86_400 } as const;

/** How a person signs in and, when other machines can reach the manager, how they join. */
export async function sayInvitations(client: ManagerClient, listen: string): Promise<void> {
  const params = { userName: FIRST_ADMINISTRATOR };
  const code = await client.call("createSignInCode", { params, body: {} }).catch((error: unknown) => {
    // Who runs the pool may have disabled or renamed the first administrator.
    if (error instanceof FarpoolError) return undefined;
    throw error;
  });
  if (code !== undefined) say(`sign in  farpool login '${code.link}'   (once, within 10 minutes)`);
  if (/^(127\.|::1$)/.test(listen)) return;
  for (const role of ["server", "client"] as const) {
    const { join } = await client.call("createJoinToken", { body: { role, ...INVITATION } });
    say(`${role.padEnd(8)} farpool join ${join}`);
  }
  say("         (each for 100 machines, within 24 hours; 'farpool admin tokens' makes and revokes them)");
}
