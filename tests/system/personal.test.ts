import { afterAll, beforeAll, expect, it } from "vitest";
import { waitFor } from "../e2e/kit/program.ts";
import { type Client, startClient, VECTOR_ADD } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// A service of one person's own, and what systemd's ways to start programs have of the machine's.

let client: Client;
let guest: Guest;
beforeAll(async () => {
  client = await startClient();
  ({ guest } = client);
}, 600_000);
afterAll(() => client.stop());

it("a person's own service works with lingering after a reboot, for her alone", async () => {
  const made = await client.pool.farpool(["admin", "tokens", "create", "--client"]);
  expect(await guest.login("dev1", `farpool join '${made.stdout.trim()}' --name dev1-ws`)).toMatchObject({
    status: 0,
  });
  const installed = await guest.ssh("dev1", "farpool service install --user -n 1 --hold on-demand --profile");
  expect(installed).toMatchObject({ status: 0 });
  // Systemd lets a person switch it on for herself.
  expect(await guest.output("ls", "/var/lib/systemd/linger")).toContain("dev1");

  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  expect((await guest.login("dev2", VECTOR_ADD)).status).not.toBe(0);

  await guest.reboot();
  // Nobody has logged in.
  await waitFor("dev1's service", async () =>
    (await guest.run(["pgrep", "-u", "dev1", "-f", "client-service"])).status === 0 ? true : undefined,
  );
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  expect(await guest.login("dev1", "farpool service uninstall --user")).toMatchObject({ status: 0 });
  expect((await guest.login("dev1", VECTOR_ADD)).status).not.toBe(0);
});

it("cron's programs have the machine's GPU", async () => {
  await guest.output("farpool", "service", "install", "--system", "-n", "1", "--hold", "on-demand");
  await guest.write("/etc/cron.d/train", `* * * * * dev2 ${VECTOR_ADD} > /tmp/cron.out 2>&1\n`);
  const text = await waitFor(
    "cron's program",
    async () => {
      const now = (await guest.run(["cat", "/tmp/cron.out"])).stdout;
      return now === "" ? undefined : now;
    },
    90_000,
  );
  expect(text).toContain("PASSED\n");
});

it("enable and disable decide about the next boot, an edit and a daemon-reload change nothing that runs", async () => {
  await guest.output("systemctl", "disable", "farpool-client.socket", "farpool-client.service");
  await guest.reboot();
  expect((await guest.login("dev1", VECTOR_ADD)).status).not.toBe(0);
  await guest.output("systemctl", "enable", "farpool-client.socket", "farpool-client.service");
  await guest.reboot();
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  await guest.output("systemctl", "daemon-reload");
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
});
