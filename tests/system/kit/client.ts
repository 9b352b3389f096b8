import { onTestFinished } from "vitest";
import { type Pool, startPool } from "../../e2e/kit/pool.ts";
import { type ProgramResult, waitFor } from "../../e2e/kit/program.ts";
import { type Guest, POOL_ADDRESS, startGuest } from "./guest.ts";

/** A client machine with a systemd of its own that has joined a pool outside of it. */
export interface Client {
  readonly guest: Guest;
  readonly pool: Pool;
  /** `farpool service install --system …` as root. */
  install(...options: readonly string[]): Promise<ProgramResult>;
  /** `farpool …` as root. */
  farpool(...words: readonly string[]): Promise<ProgramResult>;
  /** What the manager lets the service have. */
  specify(...options: readonly string[]): Promise<void>;
  /** Waits until `farpool service status` says so. */
  untilState(state: string): Promise<void>;
  /** A program in a login shell, while the test goes on. It is waited for. */
  start(user: string, line: string): Promise<ProgramResult>;
  /** The pool's living sessions. */
  sessions(): Promise<readonly string[]>;
  stop(): Promise<void>;
}

/** Where examples and test programs are on the client. */
export const program = (name: string): string => `/opt/farpool/dist/examples/${name}`;
export const VECTOR_ADD = program("vector-add");

export async function startClient(gpus = 2): Promise<Client> {
  const guest = await startGuest();
  const pool = await startPool(gpus, {}, { words: ["--listen", POOL_ADDRESS] });
  const made = await pool.farpool(["admin", "tokens", "create", "--client"]);
  const client: Client = {
    guest,
    pool,
    farpool: (...words) => guest.run(["farpool", ...words]),
    install: (...options) => guest.run(["farpool", "service", "install", "--system", ...options]),
    async specify(...options) {
      const { clients } = await pool.client.call("listClients", {});
      const thumbprint = clients.find(({ name }) => name === "ws-17")?.thumbprint;
      if (thumbprint === undefined) throw new Error("the pool does not know the client ws-17");
      // A thumbprint may begin with a dash.
      const set = await pool.farpool(["admin", "clients", "set", ...options, "--", thumbprint]);
      if (set.status !== 0) throw new Error(`the specification was not set: ${set.stderr}`);
    },
    async untilState(state) {
      let last = "";
      await waitFor(`the service is ${state}`, async () => {
        last = (await guest.run(["farpool", "service", "status", "--system"])).stdout;
        return last.includes(`this machine's service: ${state}`) ? true : undefined;
      }).catch((cause: unknown) => {
        throw new Error(`farpool service status goes on to say:\n${last}`, { cause });
      });
    },
    start(user, line) {
      const ended = guest.login(user, line);
      onTestFinished(async () => {
        await guest.run(["pkill", "-KILL", "-u", user]).catch(() => undefined);
        await ended;
      });
      return ended;
    },
    sessions: async () =>
      (await pool.client.call("listSessions", { query: {} })).sessions.map(({ id }) => id),
    async stop() {
      await guest.stop();
      await pool.stop();
    },
  };
  const joined = await client.farpool("join", made.stdout.trim(), "--name", "ws-17");
  if (joined.status !== 0) {
    await client.stop();
    throw new Error(`the client did not join: ${joined.stderr}`);
  }
  return client;
}
