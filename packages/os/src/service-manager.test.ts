import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { startProgram, temporaryFolder, waitFor } from "@farpool/testkit";
import { expect, test } from "vitest";
import { sdNotify, sdNotifyWithDescriptors } from "./service-manager.ts";

/** Node has no datagram sockets of this family, so Python plays the service manager. */
const serviceManager = `
import array, os, socket, sys
name = sys.argv[1]
own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
own.bind("\\0" + name[1:] if name[0] == "@" else name)
print("listens", flush=True)
for _ in range(int(sys.argv[2])):
    data, ancillary, flags, sender = own.recvmsg(4096, 1024)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        descriptors.frombytes(content)
    what = [os.readlink(f"/proc/self/fd/{number}") for number in descriptors]
    print(repr(data.decode()), *what, flush=True)
`;

test.each(["a path", "an abstract name"])("the service manager hears at %s", async (kind) => {
  using folder = temporaryFolder();
  const address = kind === "a path" ? join(folder.path, "notify") : `@farpool-notify-test-${process.pid}`;
  const manager = startProgram(["python3", "-c", serviceManager, address, "2"], process.env);
  await waitFor("the service manager", () => manager.stdout() || undefined);
  const environment = { NOTIFY_SOCKET: address };
  const descriptors = [openSync("/dev/null", "r"), openSync("/dev/zero", "r")];

  expect(sdNotify("READY=1\nSTATUS=well", environment)).toBe(true);
  expect(sdNotifyWithDescriptors("FDSTORE=1\nFDNAME=data", descriptors, environment)).toBe(true);

  const { stdout } = await manager.ended;
  for (const each of descriptors) closeSync(each);
  expect(stdout.split("\n")).toEqual([
    "listens",
    String.raw`'READY=1\nSTATUS=well'`,
    String.raw`'FDSTORE=1\nFDNAME=data' /dev/null /dev/zero`,
    "",
  ]);
});

test("without a service manager nothing is said", () => {
  expect(sdNotify("READY=1", {})).toBe(false);
  expect(sdNotify("READY=1", { NOTIFY_SOCKET: "" })).toBe(false);
  expect(() => sdNotify("READY=1", { NOTIFY_SOCKET: "/nowhere/notify" })).toThrow(
    expect.objectContaining({
      code: "ENOENT",
      message: expect.stringContaining("'/nowhere/notify' does not take 'READY=1'") as unknown,
    }),
  );
});
