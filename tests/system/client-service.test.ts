import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { waitFor } from "../e2e/kit/program.ts";
import { type Client, startClient, VECTOR_ADD } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// docs/user/client-service.md on a machine with a systemd of its own, and the pool outside of it.

/** What a Python does that was there before: cuInit by ctypes, again and again. */
const PATIENT_PYTHON = `
import ctypes, time
while True:
    try:
        code = ctypes.CDLL("libcuda.so.1").cuInit(0)
    except OSError:
        code = -1
    print(code, flush=True)
    if code == 0: break
    time.sleep(0.3)
`;

/** A notebook's kernel, asked before the install and after it. */
const NOTEBOOK = `
import os, time
from jupyter_client.manager import start_new_kernel
PROBE = """
import ctypes
try:
    code = ctypes.CDLL("libcuda.so.1").cuInit(0)
except OSError:
    code = -1
print("cuInit", code)
"""
def show(message):
    if message["msg_type"] == "stream": print(message["content"]["text"], end="", flush=True)
manager, kernel = start_new_kernel(kernel_name="python3")
kernel.execute_interactive(PROBE, output_hook=show, timeout=60)
open("/tmp/notebook-is-open", "w").close()
while not os.path.exists("/tmp/installed"): time.sleep(0.1)
kernel.execute_interactive(PROBE, output_hook=show, timeout=60)
manager.shutdown_kernel(now=True)
`;

let client: Client;
let guest: Guest;
/** Every file of the guest before the install. */
let before: readonly string[];
beforeAll(async () => {
  client = await startClient();
  ({ guest } = client);
  before = await files();
}, 600_000);
afterAll(() => client.stop());

/** Configuration and programs; what a running system writes by itself is not ours. */
async function files(): Promise<readonly string[]> {
  const { stdout } = await guest.run(["find", "/etc", "/usr", "/opt", "/home", "/var/lib/farpool", "-xdev"]);
  return stdout
    .split("\n")
    .filter((path) => !/\.cache|ld\.so\.cache|bash_history|\.lesshst|client-service\.log/.test(path))
    .toSorted();
}

describe("a client machine", () => {
  it("has GPUs after one command: also what was started before it", async () => {
    await guest.write("/srv/patient.py", PATIENT_PYTHON);
    expect((await guest.login("dev1", VECTOR_ADD)).status).not.toBe(0);
    await guest.login("dev1", "tmux new -d -s early");
    const python = guest.login("dev1", "python3 /srv/patient.py");
    await guest.write("/srv/notebook.py", NOTEBOOK);
    const notebook = guest.login("dev2", "IPYTHONDIR=/tmp/ipython python3 /srv/notebook.py");
    await waitFor("the notebook's kernel", async () =>
      (await guest.run(["test", "-e", "/tmp/notebook-is-open"])).status === 0 ? true : undefined,
    );

    const installed = await client.install("-n", "1", "--hold", "on-demand");
    expect(installed).toMatchObject({ status: 0 });

    await guest.output("touch", "/tmp/installed");
    expect((await notebook).stdout).toBe("cuInit -1\ncuInit 0\n");
    expect((await python).stdout).toMatch(/(-1|100)\n(.*\n)*0\n$/);
    expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
    await guest.login(
      "dev1",
      `tmux send -t early '${VECTOR_ADD} > /tmp/early 2>&1; echo $? >> /tmp/early' Enter`,
    );
    await waitFor("the pane's program", async () =>
      /PASSED[^]*\n0\n$/.test((await guest.run(["cat", "/tmp/early"])).stdout) ? true : undefined,
    );
  });

  it("every way to start a program works: ssh, cron's, sudo, a user's unit, no session at all, two users at once", async () => {
    const [one, two] = await Promise.all([guest.login("dev1", VECTOR_ADD), guest.login("dev2", VECTOR_ADD)]);
    expect([one.status, two.status]).toEqual([0, 0]);
    expect(await guest.ssh("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
    expect(await guest.login("dev1", `sudo ${VECTOR_ADD}`)).toMatchObject({ status: 0 });
    const bare = ["setpriv", "--reuid", "dev1", "--regid", "dev1", "--init-groups", "env", "-i", VECTOR_ADD];
    expect(await guest.run(bare)).toMatchObject({ status: 0 });
    const unit = ["systemd-run", "-q", "--wait", "--pipe", "--uid=dev2", "-p", "PAMName=login", VECTOR_ADD];
    expect(await guest.run(unit)).toMatchObject({ status: 0 });
  });

  it("what it has can be seen by everybody, and changed by root alone", async () => {
    const status = await guest.login("dev2", "farpool service status");
    expect(status.stdout).toContain("this machine's service: ");
    expect(status.stdout).toContain("started in this shell they use this machine's service\n");
    const pools = await guest.run(["farpool", "status"]);
    expect(pools.stdout).toMatch(/^service +this machine's, \w+: /m);
    expect(pools.stdout).toMatch(/^shell +programs started here use this machine's service$/m);
    expect((await guest.login("dev2", "farpool service logs")).stdout).toContain(
      "serves all users of this machine",
    );
    for (const verb of ["stop", "uninstall", "install --system"])
      expect(
        (await guest.login("dev2", `farpool service ${verb.includes("--") ? verb : `${verb} --system`}`))
          .status,
      ).toBe(77);
    expect((await guest.login("dev2", "systemctl stop farpool-client.service")).status).not.toBe(0);
    expect(await guest.login("dev2", VECTOR_ADD)).toMatchObject({ status: 0 });
  });

  it("a restart is not noticed by a running program, a stop gives the GPUs back at once", async () => {
    const program = guest.login("dev1", "/opt/farpool/dist/examples/busy 300; echo ended with $?");
    await client.untilState("held");
    const held = await client.sessions();

    expect(await guest.run(["systemctl", "restart", "farpool-client.service"])).toMatchObject({ status: 0 });
    expect((await program).stdout).toContain("ended with 0");
    expect(await client.sessions()).toEqual(held);

    expect(await guest.run(["systemctl", "stop", "farpool-client.service"])).toMatchObject({ status: 0 });
    await client.pool.expectNothingHeld();
    expect((await guest.login("dev1", VECTOR_ADD)).status).not.toBe(0);
    expect(await guest.run(["farpool", "service", "start"])).toMatchObject({ status: 0 });
    expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  });

  it("is the same after a reboot", async () => {
    await guest.reboot();
    expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  });

  it("who is not allowed is told so", async () => {
    expect(await client.install("-n", "1", "--hold", "on-demand", "--allow-user", "dev1")).toMatchObject({
      status: 0,
    });

    expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
    const refused = await guest.login("dev2", `FARPOOL_LOG=stderr ${VECTOR_ADD}`);
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain(
      "may not use the GPUs of this machine's client service, which are for user dev1",
    );
  });

  it("a group that manages it may restart it, and not stop it", async () => {
    await guest.output("groupadd", "ops");
    await guest.output("usermod", "-aG", "ops", "dev2");
    const words = ["-n", "1", "--hold", "on-demand", "--manage-group", "ops"];
    expect(await client.install(...words)).toMatchObject({ status: 0 });

    const unit = "farpool-client.service";
    expect(await guest.login("dev2", `systemctl restart ${unit}`)).toMatchObject({ status: 0 });
    expect((await guest.login("dev2", `systemctl stop ${unit}`)).status).not.toBe(0);
    expect((await guest.login("dev1", `systemctl restart ${unit}`)).status).not.toBe(0);
    expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
    await guest.output("groupdel", "ops");
  });

  it("uninstall leaves nothing but the log", async () => {
    expect(await guest.run(["farpool", "service", "uninstall"])).toMatchObject({ status: 0 });

    expect(await files()).toEqual(before);
    expect((await guest.login("dev1", VECTOR_ADD)).status).not.toBe(0);
    await client.pool.expectNothingHeld();
  });
});
