import { closeSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { nvidiaSmi } from "../../scripts/repository.ts";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { type Service, standInForSystemd, startService, untilState } from "./kit/service.ts";
import { waitFor } from "./kit/program.ts";

// The client service without systemd: programs without a wrapper, and without a word about a session.

let pool: Pool;
let service: Service | undefined;
beforeAll(async () => {
  pool = await startPool(1);
});
afterEach(async () => {
  await service?.stop();
  service = undefined;
});
afterAll(async () => {
  await pool.stop();
});

const vectorAdd = [example("vector-add")];
const look = [example("look")];
const smi = [nvidiaSmi, "-L"];

async function sessions(): Promise<readonly string[]> {
  return (await pool.client.call("listSessions", { query: {} })).sessions.map(({ id }) => id);
}

/** What NVML and CUDA call the GPUs: 32 digits, with dashes or without. */
function uuidsOf(text: string): readonly string[] {
  return text.replaceAll("-", "").match(/[0-9a-f]{32}/g) ?? [];
}

/** Everything that was ever granted. */
async function grants(): Promise<number> {
  return (await pool.client.call("listSessions", { query: { ended: 1_000 } })).sessions.length;
}

describe("on demand", () => {
  it("200 programs that only look take no GPU, and see what a program with one sees", async () => {
    const current = await startService(pool, "hold: on-demand\nidle-timeout: 1s\n");
    service = current;
    const before = await grants();

    const looked = await current.run(look);
    const listed = await current.run(smi);
    for (let round = 0; round < 20; round += 1) {
      const probes = await Promise.all(Array.from({ length: 10 }, () => current.run(look)));
      expect(probes.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 10 }, () => looked.stdout));
    }

    expect(looked).toMatchObject({ status: 0, stderr: "" });
    expect(looked.stdout).toContain("Farpool Simulated GPU");
    expect(listed).toMatchObject({ status: 0 });
    expect(await current.run(smi)).toMatchObject({ status: 0, stdout: listed.stdout });
    expect(uuidsOf(listed.stdout)).toEqual(uuidsOf(looked.stdout));
    expect(await grants()).toBe(before);
    expect(await service.status()).toMatchObject({ state: "idle", session: null, processes: [] });

    const computed = await service.run(vectorAdd);
    expect(computed).toMatchObject({ status: 0 });
    expect(await grants()).toBe(before + 1);
    expect((await service.run(look)).stdout).toBe(looked.stdout);
    expect((await service.run(smi)).stdout).toBe(listed.stdout);
  });

  it("the GPU goes back when no program has used it for a while, and is taken again", async () => {
    service = await startService(pool, "hold: on-demand\nidle-timeout: 500ms\n");

    expect(await service.run(vectorAdd)).toMatchObject({ status: 0 });
    const first = await grants();
    await untilState(service, "idle");
    await pool.expectNothingHeld();
    expect(await service.run(vectorAdd)).toMatchObject({ status: 0 });

    expect(await grants()).toBe(first + 1);
  });

  it("who waits is told for what, and goes on when it is there; who leaves is not waited for", async () => {
    await specify("--allow-others", "--hold", "on-demand");
    service = await startService(pool, "idle-timeout: 500ms\n");
    const other = pool.start(["run", "--", "sleep", "600"]);
    await pool.sessionOf(other);

    const left = service.start(vectorAdd);
    await left.until("waiting for ");
    left.child.kill("SIGKILL");
    await untilState(service, "idle");
    const program = service.start(vectorAdd);
    await program.until("waiting for ");
    expect(await service.status()).toMatchObject({ state: "waiting", waiting: 1 });
    other.child.kill("SIGTERM");

    expect(await program.ended).toMatchObject({ status: 0 });
    await service.stop();
    service = await startService(pool, "hold: always\nidle-timeout: 500ms\n");
    expect(await service.run(look)).toMatchObject({ status: 0 });
    expect(await service.status()).toMatchObject({ state: "idle", hold: "on-demand" });
    await specify("--none");
  });
});

describe("always", () => {
  it("the session is there from the start, and again after it was ended", async () => {
    service = await startService(pool, "hold: always\n");
    const { session } = await untilState(service, "held");

    expect(await service.run(vectorAdd)).toMatchObject({ status: 0 });
    expect(await sessions()).toEqual([session?.id]);
    const params = { sessionId: (await pool.client.call("listSessions", { query: {} })).sessions[0]?.id };
    if (params.sessionId === undefined) throw new Error("no session");
    await pool.client.call("endSession", {
      params: { sessionId: params.sessionId },
      body: { reason: "finished" },
    });

    await waitFor("another session", async () => {
      const now = await service?.status();
      return now?.state === "held" && now.session?.id !== session?.id ? true : undefined;
    });
    expect(await service.run(vectorAdd)).toMatchObject({ status: 0 });
  });

  it("a service that is killed is not noticed by its programs, and the next one has the same session", async () => {
    service = await startService(pool, "hold: always\n");
    const { session } = await untilState(service, "held");
    const program = service.start([example("busy"), "400"]);
    await waitFor("a program", async () =>
      (await service?.status())?.processes.length === 1 ? true : undefined,
    );

    await service.stop("SIGKILL");
    service = await startService(pool, "hold: always\n");
    const again = await untilState(service, "held");

    expect(again.session?.id).toBe(session?.id);
    expect(again.processes).toHaveLength(1);
    expect(await service.run(vectorAdd)).toMatchObject({ status: 0 });
    const ended = await program.ended;
    expect(ended).toMatchObject({ status: 0, stdout: expect.stringContaining("PASSED") as unknown });
    await waitFor("the program's end is noticed", async () =>
      (await service?.status())?.processes.length === 0 ? true : undefined,
    );
  });

  it("a second session beside the service's is refused, and a size above the specification", async () => {
    await specify("-n", "1", "-m", "1GiB");
    service = await startService(pool, "memory: 1GiB\n");
    await untilState(service, "held");

    const beside = await pool.farpool(["run", "--", ...vectorAdd]);
    expect(beside).toMatchObject({ status: 77 });
    expect(beside.stderr).toContain("policy 'sessions beside the service'");
    await service.stop();
    service = await startService(pool, "memory: 2GiB\n");
    await untilState(service, "refused");
    const larger = await service.run(vectorAdd);

    expect(larger.status).not.toBe(0);
    expect(larger.stderr).toContain("policy 'size of the service': asked for 1 GPU with 2 GiB");
    await specify("--none");
  });
});

describe("restarted by systemd", () => {
  it("neither who waits notices it nor who runs, and the session is the same", async () => {
    await specify("--allow-others", "--hold", "on-demand");
    const systemd = standInForSystemd(pool);
    onTestFinished(() => closeSync(systemd.socket));
    const restart = async (signal?: NodeJS.Signals): Promise<Service> => {
      await service?.stop(signal);
      return (service = await startService(pool, "idle-timeout: 500ms\n", systemd));
    };
    const first = await restart();
    const other = pool.start(["run", "--", "sleep", "600"]);
    await pool.sessionOf(other);
    const program = first.start([example("busy"), "300"]);
    await program.until("waiting for ");

    // Whether it is asked to stop or killed, its place in the queue is kept.
    const queued = await sessions();
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      const next = await restart(signal);
      await waitFor("the program waits again", async () =>
        (await next.status()).waiting === 1 ? true : undefined,
      );
      expect(await sessions()).toEqual(queued);
    }
    other.child.kill("SIGTERM");
    const { session } = await untilState(service ?? first, "held");
    expect(queued).toContain(session?.id);
    await program.until("round 1\n");
    const last = await restart();
    const again = await untilState(last, "held");

    expect(again.session?.id).toBe(session?.id);
    expect(again.processes).toHaveLength(1);
    expect(await program.ended).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("PASSED") as unknown,
    });
    await untilState(last, "idle");
    await specify("--none");
  });
});

describe("restarted with another size", () => {
  it("running programs keep what they have, and the new size applies when they have ended", async () => {
    const systemd = standInForSystemd(pool);
    onTestFinished(() => closeSync(systemd.socket));
    service = await startService(pool, "hold: always\nmemory: 1GiB\n", systemd);
    const { session } = await untilState(service, "held");
    const program = service.start([example("busy"), "300"]);
    await program.until("round 1\n");

    await service.stop();
    const next = (service = await startService(pool, "hold: always\nmemory: 2GiB\n", systemd));
    const kept = await untilState(next, "held");
    expect(kept.session?.id).toBe(session?.id);
    expect(kept.sentence).toContain("1 GPU with 2 GiB is asked for when no program is in it any more");
    expect(await program.ended).toMatchObject({ status: 0 });

    await waitFor("the new size", async () => {
      const now = await next.status();
      return now.session !== null && now.session.id !== session?.id ? true : undefined;
    });
    expect((await next.status()).sentence).not.toContain("is asked for when");
    const { session: second } = await next.status();
    await next.stop();

    service = await startService(pool, "hold: always\nmemory: 1GiB\n", systemd);
    const { session: third } = await untilState(service, "held");
    expect(await sessions()).toEqual([third?.id]);
    expect(third?.id).not.toBe(second?.id);
  });
});

it("a service that cannot start tells why those for whom systemd started it", async () => {
  const systemd = standInForSystemd(pool);
  onTestFinished(() => closeSync(systemd.socket));
  const good = await startService(pool, "hold: on-demand\n", systemd);
  await good.stop();
  // The socket is systemd's: who connects waits for a service.
  const program = good.start(vectorAdd);
  const bad = startService(pool, "hold: perhaps\n", systemd);

  await expect(bad).rejects.toThrow("client-service.yaml: ");
  const ended = await program.ended;
  expect(ended.status).not.toBe(0);
  expect(ended.stderr).toMatch(
    /the client service of this machine does not start: \S+client-service\.yaml: .*perhaps/,
  );
});

describe("who may", () => {
  it("an account that is not allowed is told so, one of an allowed group is let in", async () => {
    if (process.getuid?.() !== 0) throw new Error("this test runs programs as other users: run it as root");
    service = await startService(pool, "hold: on-demand\nidle-timeout: 500ms\nallow-groups: [daemon]\n");
    const nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    const member = ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", "1"];

    const refused = await service.run([...nobody, ...vectorAdd]);
    expect(refused.stderr).toContain("user 65534 may not use the GPUs of this machine's client service");
    expect(refused.status).not.toBe(0);

    expect(await service.run([...member, ...vectorAdd])).toMatchObject({ status: 0 });
  });
});

/** What an administrator lets this machine's service have. */
async function specify(...options: readonly string[]): Promise<void> {
  const { clients } = await pool.client.call("listClients", {});
  const [client] = clients;
  if (client === undefined) throw new Error("the pool knows no client yet");
  // A thumbprint may begin with a dash.
  const words = ["admin", "clients", "set", ...options, "--", client.thumbprint];
  expect(await pool.farpool(words)).toMatchObject({ status: 0 });
}
