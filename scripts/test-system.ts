import { spawnSync } from "node:child_process";
import { buildEverything } from "./build/everything.ts";
import { runOrFail } from "./process.ts";
import { main, SetupFailed, step } from "./progress.ts";

/** What boots a Debian beside this machine's own system. */
const NEEDS: ReadonlyArray<readonly [program: string, debianPackage: string]> = [
  ["debootstrap", "debootstrap"],
  ["systemd-nspawn", "systemd-container"],
  ["nsenter", "util-linux"],
  ["ip", "iproute2"],
  ["ssh", "openssh-client"],
  ["podman", "podman"],
  ["crun", "crun"],
];

// npm run test:system             the client service on a booted Debian; as root
// npm run test:system -- --built  with what is built
await main(async () => {
  if (process.getuid?.() !== 0)
    throw new SetupFailed("the system test boots a machine, which only root may", "sudo npm run test:system");
  const missing = NEEDS.filter(([program]) => spawnSync("which", [program]).status !== 0);
  if (missing.length > 0) {
    const packages = missing.map(([, debianPackage]) => debianPackage);
    await step(`Debian packages ${packages.join(", ")}`, async () => {
      const environment = { DEBIAN_FRONTEND: "noninteractive" };
      await runOrFail({ command: "apt-get", arguments: ["update"], environment, log: "apt-update" });
      const words = ["install", "-y", "--no-install-recommends", ...packages];
      await runOrFail({ command: "apt-get", arguments: words, environment, log: "apt-install" });
    });
  }
  if (!process.argv.includes("--built")) await buildEverything();
  await step("the client service on a machine of its own", async () => {
    await runOrFail({
      command: "vitest",
      arguments: ["run", "--project", "system"],
      log: "vitest-system",
    });
  });
});
