import { afterAll, beforeAll, expect, it } from "vitest";
import { waitFor } from "../e2e/kit/program.ts";
import { type Client, startClient, VECTOR_ADD } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// "Bitfusion Client Service": the article's own three files with Bitfusion's command, which is ours. The list of variables is ours, too,
// as the article tells its reader to find it.

const PROFILE = "/etc/profile.d/bitfusion-client-env.sh";
const UNIT = `[Unit]
Description=Start Bitfusion Client Environment
#
[Service]
# Set User (and/or Group) to not run as root and cause log files to be written in user's .bitfusion subdir
User=root
#User=<username>
#Group=<usergroup>
Type=simple
# Edit the bitfusion run command to allocate the number of GPUs and partial size which you need
ExecStart=/usr/bin/bitfusion run -n 1 -- bash /opt/bitfusion/bitfusion-client-env
ExecStopPost=/bin/rm ${PROFILE}
#ExecStopPost=/bin/rm /home/<username>/.bitfusion-client-env.sh
RestartSec=5
Restart=always
KillMode=process
#
[Install]
WantedBy=multi-user.target
Alias=bfcenv.service
`;
const CAPTURE = `BITFUSIONTARGFILE=${PROFILE}
#BITFUSIONTARGFILE=/home/\\<username>/.bitfusion-client-env.sh
#
/bin/chmod 644 $BF_ADAPTOR_CONFIG
#
/bin/echo "export LD_LIBRARY_PATH=\\"$LD_LIBRARY_PATH:\\$LD_LIBRARY_PATH\\"" > $BITFUSIONTARGFILE
/bin/echo "export FARPOOL_SESSION=$FARPOOL_SESSION" >> $BITFUSIONTARGFILE
/bin/echo "export BF_ADAPTOR_CONFIG=$BF_ADAPTOR_CONFIG" >> $BITFUSIONTARGFILE
#
/bin/sleep infinity
`;
const LAUNCHER = '#!/bin/sh\nexec /opt/farpool/node /opt/farpool/dist/cli/bitfusion.mjs "$@"\n';

let client: Client;
let guest: Guest;
beforeAll(async () => {
  client = await startClient(1);
  ({ guest } = client);
  await guest.write("/usr/bin/bitfusion", LAUNCHER);
  await guest.output("chmod", "755", "/usr/bin/bitfusion");
  await guest.output("mkdir", "-p", "/opt/bitfusion");
  await guest.write("/opt/bitfusion/bitfusion-client-env", CAPTURE);
  await guest.write("/lib/systemd/system/bitfusion-client.service", UNIT);
}, 600_000);
afterAll(() => client.stop());

/** The last line that the capture script writes. */
const untilCaptured = (): Promise<true> =>
  waitFor("the profile script", async () =>
    (await guest.run(["cat", PROFILE])).stdout.includes("BF_ADAPTOR_CONFIG=/") ? true : undefined,
  );

it("after a reboot whoever logs in runs CUDA as if there were local GPUs, several at once", async () => {
  await guest.output("systemctl", "enable", "bitfusion-client");
  await guest.reboot();
  await untilCaptured();
  const passed = { status: 0, stdout: expect.stringMatching(/PASSED\n$/) as unknown };
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject(passed);
  const both = await Promise.all(["dev1", "dev2"].map((user) => guest.login(user, VECTOR_ADD)));
  expect(both).toEqual([expect.objectContaining(passed), expect.objectContaining(passed)]);
  expect(await client.sessions()).toHaveLength(1);
});

it("20 restarts leave no process, no GPU and no file", async () => {
  for (let round = 0; round < 20; round += 1) {
    // Systemd starts nothing more than five times in ten seconds.
    await guest.output("systemctl", "reset-failed");
    await guest.output("systemctl", "restart", "bitfusion-client");
    await untilCaptured();
  }
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  expect(await guest.output("pgrep", "-fc", "bitfusion-client-env")).toBe("2\n");

  await guest.output("systemctl", "stop", "bitfusion-client");
  await client.pool.expectNothingHeld();
  expect((await guest.run(["pgrep", "-f", "bitfusion"])).stdout).toBe("");
  expect((await guest.run(["sh", "-c", `ls ${PROFILE} /tmp/bitfusion* /tmp/run-*`])).stdout).toBe("");
});
