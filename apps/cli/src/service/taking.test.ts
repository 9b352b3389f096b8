import { join } from "node:path";
import type { ManagerClient } from "@farpool/client-api";
import {
  connectionIdSchema,
  FarpoolError,
  newSessionId,
  WHOLE,
  type Session,
  type SessionId,
  type SessionRequest,
  type Size,
} from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { processStart } from "@farpool/os";
import { temporaryFolder, waitFor } from "@farpool/testkit";
import { expect, onTestFinished, test, vi } from "vitest";
import type { SessionWish } from "../run/session.ts";
import type { HeldSession } from "./held-session.ts";
import { openState, type KnownProcess, type StateKeeper } from "./state-file.ts";
import { createTaking, type Taking, type TakingOptions } from "./taking.ts";

const clientKey = generateSigningKey();
const quiet = (): void => undefined;
const GIB: Size = { kind: "memory", memoryMib: 1_024 };

type Fields = Pick<Session, "id" | "state" | "count" | "size" | "purpose" | "clientKey">;

/** A manager with a queue and without servers: what it knows, what it was asked, and whether it answers. */
class FakeManager {
  readonly sessions = new Map<SessionId, Fields>();
  readonly calls: string[] = [];
  isAway = false;
  isFull = false;
  /** Called when a session is asked for, before it is there. */
  asked: (id: SessionId) => void = quiet;

  readonly client = {
    call: (name: string, input: unknown, options: { signal?: AbortSignal } = {}) =>
      this.answer(name, input as Input, options.signal),
    hold: () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(quiet) }) }),
  } as unknown as ManagerClient;

  put(changes: Partial<Fields> = {}): SessionId {
    const id = newSessionId((limit) => Math.floor(Math.random() * limit));
    const fields = { state: "queued", count: 1, size: WHOLE, purpose: "service" } as const;
    this.sessions.set(id, { ...fields, id, clientKey: clientKey.thumbprint, ...changes });
    return id;
  }

  private async answer(name: string, { params, body }: Input, signal?: AbortSignal): Promise<unknown> {
    this.calls.push(name);
    if (this.isAway) throw new FarpoolError("FARPOOL_POOL_UNREACHABLE", "nobody answers");
    if (name === "createSession") return this.create(body);
    if (name === "watchSession") await this.grantedOr(signal);
    if (name === "connectSession") return {};
    const session = this.sessions.get(params.sessionId);
    if (session === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", "there is no such session");
    const now = {
      ...session,
      ...(name === "endSession" ? { state: "ended" as const } : {}),
      ...(name === "watchSession" ? { state: "active" as const } : {}),
    };
    this.sessions.set(now.id, now);
    return now;
  }

  private create({ id, count, size }: SessionRequest): Fields | undefined {
    if (id === undefined) throw new Error("the id is the client's");
    this.asked(id);
    for (const { state } of this.sessions.values())
      if (state !== "ended") throw new FarpoolError("FARPOOL_POLICY", "a second one");
    const state = this.isFull ? "queued" : "active";
    const made: Fields = { id, state, count, size, purpose: "service", clientKey: clientKey.thumbprint };
    this.sessions.set(id, made);
    return made;
  }

  private async grantedOr(signal?: AbortSignal): Promise<void> {
    while (this.isFull) {
      signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

interface Input {
  readonly params: { readonly sessionId: SessionId };
  readonly body: SessionRequest;
}

function newState(left: SessionId | null = null, processes: readonly KnownProcess[] = []): StateKeeper {
  const folder = temporaryFolder();
  onTestFinished(() => folder[Symbol.dispose]());
  const state = openState(join(folder.path, "state.json"), quiet);
  state.change({ sessionId: left, processes: [...processes] });
  return state;
}

function start(
  manager: FakeManager,
  state: StateKeeper,
  { size = WHOLE, ...changes }: Partial<TakingOptions> & { readonly size?: Size } = {},
): Taking {
  return createTaking({
    manager: () => Promise.resolve(manager.client),
    clientKey: clientKey.thumbprint,
    state,
    asked: () => Promise.resolve({ count: 1, size }),
    wish: () => Promise.resolve({ count: 1, size, purpose: "service" } as SessionWish),
    open: ({ handle, isOutdated }) => ({ handle, isOutdated }) as HeldSession,
    changed: quiet,
    log: quiet,
    ...changes,
  });
}

/** Takes until it is given up; answers when that is seen to. */
function wait(taking: Taking): { readonly taken: Promise<HeldSession>; leave(): Promise<void> } {
  const leaving = new AbortController();
  const taken = taking.take(leaving.signal, quiet);
  taken.catch(quiet);
  return {
    taken,
    async leave() {
      leaving.abort();
      await taken.catch(quiet);
    },
  };
}

const never = new AbortController().signal;
const living: KnownProcess = {
  connectionId: connectionIdSchema.parse("0".repeat(32)),
  ...{ server: 0, keyHash: "", program: "test", uid: 0 },
  pid: process.pid,
  start: processStart(process.pid),
};

test("the state names the session before the manager has heard of it: a killed service leaves none behind", async () => {
  const manager = new FakeManager();
  const state = newState();
  let noted: SessionId | null = null;
  let asked: SessionId | undefined;
  manager.asked = (id) => {
    asked = id;
    noted = state.current.sessionId;
  };

  const held = await start(manager, state).take(never, quiet);

  expect(noted).toBe(asked);
  expect(held.handle.session.id).toBe(asked);
});

test("a service that is restarted in the queue is found in it by the next one, at the same place", async () => {
  const manager = new FakeManager();
  manager.isFull = true;
  const state = newState();
  const first = wait(start(manager, state));
  await waitFor("queued", () => (manager.sessions.size === 1 ? true : undefined));
  const [id] = manager.sessions.keys();
  // Holding does not give it up when it leaves it to the next service.
  await first.leave();
  expect(state.current.sessionId).toBe(id);

  const next = wait(start(manager, state));
  await waitFor("waited for", () => (manager.calls.includes("watchSession") ? true : undefined));
  manager.isFull = false;

  expect((await next.taken).handle.session.id).toBe(id);
  expect(manager.calls.filter((name) => name === "createSession")).toHaveLength(1);
  expect(manager.calls).not.toContain("endSession");
});

test("a cancel that fails does not block the next request: it has the session that is still there", async () => {
  const manager = new FakeManager();
  manager.isFull = true;
  const state = newState();
  const taking = start(manager, state);
  const first = wait(taking);
  await waitFor("queued", () => (manager.sessions.size === 1 ? true : undefined));
  const [id] = manager.sessions.keys();
  await first.leave();
  manager.isAway = true;
  await taking.giveUp();
  expect(state.current.sessionId).toBe(id);

  manager.isAway = false;
  manager.isFull = false;

  expect((await taking.take(never, quiet)).handle.session.id).toBe(id);
});

test("a cancel that fails is tried again while nobody asks", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const manager = new FakeManager();
  const id = manager.put();
  const state = newState(id);
  const log = vi.fn<TakingOptions["log"]>();
  manager.isAway = true;

  await start(manager, state, { log }).giveUp();
  expect(log).toHaveBeenLastCalledWith(expect.stringContaining(`session ${id} could not be ended`));
  await vi.advanceTimersByTimeAsync(6_000);
  manager.isAway = false;
  await vi.advanceTimersByTimeAsync(6_000);

  expect(manager.sessions.get(id)?.state).toBe("ended");
  expect(state.current.sessionId).toBeNull();
});

test("GPUs that could not be given back go back later, or are the next program's", async () => {
  const manager = new FakeManager();
  const state = newState();
  const taking = start(manager, state);
  const held = await taking.take(never, quiet);
  const { id } = held.handle.session;
  manager.isAway = true;
  await held.handle.end();
  expect(state.current.sessionId).toBe(id);
  manager.isAway = false;

  expect((await taking.take(never, quiet)).handle.session.id).toBe(id);
});

test("a session of another size ends at once when nobody is in it, also in the queue", async () => {
  for (const found of ["queued", "active"] as const) {
    const manager = new FakeManager();
    const old = manager.put({ state: found });

    const held = await start(manager, newState(old), { size: GIB }).take(never, quiet);

    expect(manager.sessions.get(old)?.state).toBe("ended");
    expect(held.isOutdated).toBe(false);
    expect(manager.sessions.get(held.handle.session.id)?.size).toEqual(GIB);
  }
});

test("a session of another size is kept for the programs in it, as one that is outdated", async () => {
  const manager = new FakeManager();
  const old = manager.put({ state: "active" });

  const held = await start(manager, newState(old, [living]), { size: GIB }).take(never, quiet);

  expect(held).toMatchObject({ isOutdated: true, handle: { session: { id: old } } });
});

test("a place in the queue is kept only for so long as programs need to ask again", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const manager = new FakeManager();
  manager.isFull = true;
  const changed = vi.fn<TakingOptions["changed"]>();
  const taking = start(manager, newState(manager.put()), { changed });
  const next = wait(taking);

  await vi.advanceTimersByTimeAsync(4_000);
  expect(taking.isLookedFor()).toBe(true);
  await vi.advanceTimersByTimeAsync(2_000);

  expect(taking.isLookedFor()).toBe(false);
  expect(changed).toHaveBeenCalled();
  const left = next.leave();
  await vi.advanceTimersByTimeAsync(100);
  await left;
});

test("who leaves before the manager has said what is configured asks for nothing", async () => {
  const manager = new FakeManager();
  const leaving = new AbortController();
  const taking = start(manager, newState(manager.put()), {
    asked() {
      leaving.abort();
      return Promise.resolve({ count: 1, size: WHOLE });
    },
  });

  await expect(taking.take(leaving.signal, quiet)).rejects.toThrow("aborted");

  expect(manager.calls).toEqual([]);
});

test("another client's session is left alone", async () => {
  const manager = new FakeManager();
  const other = manager.put({ state: "active", clientKey: generateSigningKey().thumbprint });

  await expect(start(manager, newState(other)).take(never, quiet)).rejects.toThrow("a second one");

  expect(manager.sessions.get(other)?.state).toBe("active");
});
