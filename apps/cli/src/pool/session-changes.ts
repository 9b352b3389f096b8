import { FarpoolError, formatDuration } from "@farpool/contract";
import { printJson, say } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { heldLine } from "../run/report.ts";
import { parseId } from "./sessions.ts";

export async function extend(isJson: boolean, text: string, byMs: number): Promise<number> {
  const params = { sessionId: parseId(text) };
  const session = await withPool((client) => client.call("extendSession", { params, body: { byMs } }));
  if (isJson) printJson(session);
  else {
    const until = session.expiresAt === null ? "its grant" : session.expiresAt;
    say(
      `session ${session.id} may live ${formatDuration(session.maxDurationMs ?? 0)}${
        session.expiresAt === null ? ` from ${until} on` : `, until ${until}`
      }`,
    );
  }
  return 0;
}

export async function message(isJson: boolean, id: string, text: string): Promise<number> {
  const params = { sessionId: parseId(id) };
  if (text.length === 0 || text.length > 500)
    throw new FarpoolError("FARPOOL_USAGE", `a message has 1 to 500 characters, not ${text.length}`, {
      hint: null,
    });
  const session = await withPool((client) => client.call("messageSession", { params, body: { text } }));
  if (isJson) printJson(session);
  else say(`session ${session.id} (${session.client.user}@${session.client.host}) is told`);
  return 0;
}

export async function release(isJson: boolean, text: string): Promise<number> {
  const params = { sessionId: parseId(text) };
  const session = await withPool((client) => client.call("releaseSession", { params }));
  if (isJson) printJson(session);
  else say(`session ${session.id} is released: ${heldLine(session)}`);
  return 0;
}
