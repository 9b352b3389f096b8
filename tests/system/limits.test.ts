import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient, openMembership } from "@farpool/client-api";
import { sessionRequestSchema } from "@farpool/contract";
import { importSigningKey } from "@farpool/identity";
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from "vitest";
import { waitFor } from "../e2e/kit/program.ts";
import { type Client, program, startClient, VECTOR_ADD } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// What root of a client machine, with the client's key in hand, can make of its service: nothing more.

const UNIT = "farpool-client.service";
const FILE = "/etc/farpool/client-service.yaml";
const COUNT = "policy 'GPUs of the service'";
const BESIDE = "policy 'sessions beside the service'";

let client: Client;
let guest: Guest;
beforeAll(async () => {
  client = await startClient(8);
  ({ guest } = client);
  await client.specify("-n", "1", "-m", "1GiB", "--hold", "on-demand");
  await guest.output("farpool", "service", "install", "--system");
}, 600_000);
afterAll(() => client.stop());

beforeEach(async () => {
  await waitFor("the service's programs work", async () =>
    (await guest.login("dev1", VECTOR_ADD)).status === 0 ? true : undefined,
  );
});

const audit = async (): Promise<string> =>
  (await client.pool.farpool(["admin", "audit", "--last", "20"])).stdout;

it("a session beside the service's is refused and audited", async () => {
  const result = await client.farpool("run", "-n", "1", "--", VECTOR_ADD);
  expect(result).toMatchObject({ status: 77 });
  expect(result.stderr).toContain(BESIDE);
  expect(await audit()).toContain("sessions beside the service");
});

it("a file that asks for more is refused and audited, and the former one works again", async () => {
  const former = await guest.output("cat", FILE);
  onTestFinished(async () => {
    await guest.write(FILE, former);
    await guest.output("systemctl", "restart", UNIT);
  });
  await guest.write(FILE, "gpus: 8\n");
  await guest.output("systemctl", "restart", UNIT);
  const refused = await guest.login("dev1", `FARPOOL_LOG=stderr ${VECTOR_ADD}`);
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain(COUNT);
  expect(await audit()).toContain("GPUs of the service");
});

it("a drop-in of the unit that runs something else gets nothing", async () => {
  const folder = `/etc/systemd/system/${UNIT}.d`;
  onTestFinished(async () => {
    await guest.output("rm", "-r", folder);
    await guest.output("systemctl", "daemon-reload");
    await guest.run(["systemctl", "reset-failed", UNIT]);
    await guest.output("systemctl", "restart", UNIT);
  });
  await guest.output("mkdir", "-p", folder);
  const command = `/usr/local/bin/farpool run -n 8 -- sh -c "${VECTOR_ADD}; sleep 60"`;
  await guest.write(`${folder}/more.conf`, `[Service]\nType=simple\nExecStart=\nExecStart=${command}\n`);
  await guest.output("systemctl", "daemon-reload");
  await guest.output("systemctl", "restart", UNIT);
  await waitFor("the refusal in the journal", async () =>
    (await guest.output("journalctl", "-u", UNIT, "--no-pager")).includes(BESIDE) ? true : undefined,
  );
  // The one of the service before it, which the next would find again.
  expect((await client.sessions()).length).toBeLessThanOrEqual(1);
});

it("a second service is refused while the first has its session", async () => {
  await guest.write("/etc/farpool/second.yaml", "hold: on-demand\n");
  await guest.run(["cp", "-a", "/var/lib/farpool", "/var/lib/second"]);
  await guest.run(["rm", "/var/lib/second/client-service-state.json"]);
  const held = client.start("dev1", `${program("busy")} 400 64 20`);
  await client.untilState("held");
  const before = await client.sessions();
  const second = { FARPOOL_BROKER: "/run/second/broker.sock", FARPOOL_STATE: "/var/lib/second" };
  const setting = Object.entries({ ...second, FARPOOL_SERVICE_CONFIG: "/etc/farpool/second.yaml" });
  const environment = setting.flatMap(([name, value]) => ["-E", `${name}=${value}`]);
  const command = ["/usr/local/bin/farpool", "internal", "client-service", "system"];
  await guest.output("mkdir", "-p", "/run/second");
  await guest.output("systemd-run", "-q", "--unit=second", ...environment, ...command);
  await waitFor("the second service", async () =>
    (await guest.run(["test", "-S", second.FARPOOL_BROKER])).status === 0 ? true : undefined,
  );
  const refused = await guest.login(
    "dev1",
    `FARPOOL_LOG=stderr FARPOOL_BROKER=${second.FARPOOL_BROKER} ${VECTOR_ADD}`,
  );
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain("policy 'sessions of the service'");
  expect(await client.sessions()).toEqual(before);
  await guest.run(["systemctl", "stop", "second"]);
  await guest.run(["rm", "-r", "/var/lib/second", "/etc/farpool/second.yaml"]);
  expect(await held).toMatchObject({ status: 0 });
});

it.each([
  ["run", 8],
  ["run", 1],
  ["service", 8],
  ["reserve", 1],
] as const)(
  "the API refuses a session of purpose %s with %i GPUs to the client's own key",
  async (purpose, count) => {
    // As a program of root's would do it that has nothing of ours but the two files.
    const folder = join(guest.root, "var/lib/farpool");
    const files = { membership: join(folder, "client-membership.json"), key: join(folder, "client-key.pem") };
    const membership = openMembership(files);
    if (membership === undefined) throw new Error(`${folder} has no membership`);
    const key = importSigningKey(readFileSync(files.key, "utf8"));
    const api = createClient(membership.address(null));
    const held = client.start("dev1", `${program("busy")} 100 64 20`);
    await client.untilState("held");
    const before = await client.sessions();
    const body = sessionRequestSchema.parse({
      ...{ count, purpose, size: { kind: "whole" }, name: null, waitMs: 0, clientKey: key.publicKey },
      client: { host: "ws-17", user: "root", pid: 1, program: "root" },
    });
    await expect(api.call("createSession", { body })).rejects.toMatchObject({ code: "FARPOOL_POLICY" });
    api.close();
    expect(await client.sessions()).toEqual(before);
    expect(await audit()).toMatch(/GPUs of the service|size of the service|sessions beside the service/);
    expect(await held).toMatchObject({ status: 0 });
  },
);
