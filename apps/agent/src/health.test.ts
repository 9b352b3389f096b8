import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inventorySchema } from "@farpool/contract";
import { fakeInventory, GIB, temporaryFolder } from "@farpool/testkit";
import { expect, onTestFinished, test } from "vitest";
import { withHealth } from "./health.ts";
import { readKernelLog } from "./kernel-log.ts";

const inventory = (simulated = false) =>
  inventorySchema.parse(
    fakeInventory(
      ["GPU-1", "GPU-2"].map((uuid) => ({ uuid, name: "NVIDIA H200", memoryTotalBytes: 141 * GIB })),
      simulated,
    ),
  );

/** A machine with a tool that answers so, and a kernel's log. */
function machine(script: string, log: string | null = null) {
  const folder = temporaryFolder();
  onTestFinished(() => folder[Symbol.dispose]());
  const [smi, kernelLog] = [join(folder.path, "nvidia-smi"), join(folder.path, "kmsg")];
  writeFileSync(smi, `#!/bin/sh\n${script}\n`);
  chmodSync(smi, 0o755);
  if (log !== null) writeFileSync(kernelLog, log);
  return { smi, kernelLog };
}

const ANSWERS = `case "$1" in
--query-gpu=*clocks_event_reasons.active*)
  echo "GPU-1, 580.95.05, 83, 2, 17, Disabled, 0x0000000000000060"
  echo "GPU-2, 580.95.05, [N/A], [N/A], [N/A], [N/A], [N/A]" ;;
--query-compute-apps=*)
  echo "GPU-1, 4711, /usr/bin/python3, -c, x, 1024"
  echo "GPU-1, 4712, /opt/farpool/bin/farpool-worker, 512"
  echo "GPU-1, 4713, [Not Found], 512"
  echo "GPU-1, 4714, own, [N/A]" ;;
esac`;

test("how a GPU is, as nvidia-smi and the kernel's log tell; what they do not tell is null", async () => {
  const log = [
    "6,1,1,-;NVRM: Xid (PCI:0000:00:00): 13, pid=1, name=old, Graphics Exception",
    "4,2,2,-;NVRM: Xid (PCI:0000:00:00): 79, pid=2, name=x, GPU has fallen off the bus.",
    "4,3,3,-;usb 1-1: new device\n",
  ].join("\n");
  const { gpus, driverRelease } = await withHealth(inventory(), machine(ANSWERS, log), new Set([4714]));
  expect(driverRelease).toBe("580.95.05");
  expect(gpus.map(({ health }) => health)).toEqual([
    {
      temperatureCelsius: 83,
      eccUncorrected: 2,
      eccCorrected: 17,
      throttling: ["heat (software)", "heat (hardware)"],
      mig: "disabled",
      xid: { code: 79, message: "pid=2, name=x, GPU has fallen off the bus." },
      foreignProcesses: [{ pid: 4711, program: "/usr/bin/python3, -c, x", memoryUsedBytes: 1024 ** 3 }],
    },
    {
      temperatureCelsius: null,
      eccUncorrected: null,
      eccCorrected: null,
      throttling: null,
      mig: null,
      xid: null,
      foreignProcesses: [],
    },
  ]);
});

test("a driver that knows the older name of a field is asked by it", async () => {
  const older = ANSWERS.replace("clocks_event_reasons", "clocks_throttle_reasons").replace(
    "esac",
    "*) exit 2 ;;\nesac",
  );
  const { gpus } = await withHealth(inventory(), machine(older), new Set());
  expect(gpus[0]?.health).toMatchObject({ temperatureCelsius: 83, xid: null });
});

test("without the tool nothing is known of a GPU, but what the kernel says of it", async () => {
  const source = machine("exit 9", "NVRM: Xid (PCI:0000:01:00): 48, DBE\n");
  const { gpus, driverRelease } = await withHealth(
    inventory(),
    { ...source, smi: "/nonexistent" },
    new Set(),
  );
  expect(driverRelease).toBeNull();
  expect(gpus.map(({ health }) => health?.xid ?? null)).toEqual([null, { code: 48, message: "DBE" }]);
  expect(gpus[0]?.health).toBeUndefined();
});

test("a simulated GPU has no health, and nobody is asked about it", async () => {
  const simulated = inventory(true);
  expect(await withHealth(simulated, machine("exit 9"), new Set())).toBe(simulated);
});

test("the machine's own log is read to its end, or is not ours to read, but never waited for", () => {
  const log = readKernelLog("/dev/kmsg");
  expect(log === undefined || typeof log === "string").toBe(true);
});
