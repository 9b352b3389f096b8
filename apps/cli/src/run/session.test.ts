import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@farpool/client-api";
import { publicKeySchema } from "@farpool/contract";
import { expect, onTestFinished, test } from "vitest";
import { takeSession } from "./session.ts";

interface Asked {
  readonly id: string;
}

/** A manager that answers requests for a session with these errors, one after the other; tells what it was asked. */
async function startManager(...codes: ReadonlyArray<readonly [number, string]>) {
  const folder = mkdtempSync(join(tmpdir(), "farpool-session-"));
  const path = join(folder, "manager.sock");
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => (text += String(chunk)));
    request.on("end", () => {
      const [status, code] = codes[asked.length] ?? [500, "FARPOOL_INTERNAL"];
      asked.push(JSON.parse(text) as Asked);
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { code, message: `answer ${asked.length}`, hint: null } }));
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(path, resolve);
  });
  const client = createClient({ kind: "unix", path });
  onTestFinished(() => {
    client.close();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return { client, asked };
}

const wish = {
  count: 1,
  size: { kind: "whole" },
  name: undefined,
  waitMs: undefined,
  purpose: "run",
  project: undefined,
  labels: {},
  idleTimeoutMs: undefined,
  maxDurationMs: undefined,
  autoReleaseMs: undefined,
  filters: undefined,
  priority: undefined,
  spreadServers: false,
  program: "train",
  clientKey: publicKeySchema.parse({ kty: "OKP", crv: "Ed25519", x: "A".repeat(43) }),
} as const;

test("a manager whose database is away for a moment is asked again, for the same session", async () => {
  const { client, asked } = await startManager(
    [503, "FARPOOL_UNAVAILABLE"],
    [503, "FARPOOL_UNAVAILABLE"],
    [422, "FARPOOL_NEVER_FITS"],
  );
  let timesAway = 0;
  const away = (): void => void (timesAway += 1);
  const taken = takeSession(client, wish, {
    away,
    queued: () => undefined,
    signal: new AbortController().signal,
  });
  await expect(taken).rejects.toMatchObject({ code: "FARPOOL_NEVER_FITS", message: "answer 3" });
  expect(asked.map(({ id }) => id)).toEqual(Array.from({ length: 3 }, () => asked[0]?.id));
  expect(timesAway).toBe(1);
});
