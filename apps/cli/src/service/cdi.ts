import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { FarpoolError } from "@farpool/contract";
import { findInstallation, servicePlaces } from "@farpool/layout";
import { stringify } from "yaml";
import { print, say } from "../core/output.ts";

export const CDI_FILE = "/etc/cdi/farpool.yaml";

const LIBRARIES = ["libcuda.so.1", "libnvidia-ml.so.1"];
/** Folders in the loader caches of Debian's and of Red Hat's images: a folder outside of them is not found. */
const IMAGE_FOLDERS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

/** What gives a container the client service: the shims where its loader looks, and the service's socket. */
export function cdiSpecification(shimFolder: string, socketFolder: string): string {
  const bind = (hostPath: string, containerPath: string, options: readonly string[]): object => ({
    ...{ hostPath, containerPath },
    options: ["bind", ...options],
  });
  return stringify({
    cdiVersion: "0.5.0",
    kind: "farpool.dev/gpu",
    devices: [
      {
        name: "all",
        containerEdits: {
          mounts: [
            ...IMAGE_FOLDERS.flatMap((folder) =>
              LIBRARIES.map((name) =>
                bind(join(shimFolder, name), join(folder, name), ["ro", "nosuid", "nodev"]),
              ),
            ),
            // The folder: after a restart of the socket there is another file in it.
            bind(socketFolder, "/run/farpool-client", ["nosuid", "nodev", "noexec"]),
          ],
        },
      },
    ],
  });
}

export function cdi(options: { readonly isPrinted: boolean; readonly isRemoved: boolean }): number {
  const { shimFolder } = findInstallation();
  const socketFolder = dirname(servicePlaces("system").socket);
  const text = cdiSpecification(shimFolder, socketFolder);
  if (options.isPrinted) {
    print(text.trimEnd());
    return 0;
  }
  try {
    if (options.isRemoved) rmSync(CDI_FILE, { force: true });
    else {
      // Users start containers, too.
      process.umask(0o022);
      mkdirSync(dirname(CDI_FILE), { recursive: true, mode: 0o755 });
      writeFileSync(CDI_FILE, text, { mode: 0o644 });
    }
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `${CDI_FILE} cannot be changed (${code})`, {
      hint: "sudo farpool service cdi; '--print' writes it to where you say",
      cause,
    });
  }
  if (options.isRemoved) return 0;
  for (const path of [...LIBRARIES.map((name) => join(shimFolder, name)), socketFolder])
    if (!existsSync(path))
      say(`note: ${path} is missing: until it is there containers with the device do not start`);
  say(`${CDI_FILE}: podman run --device farpool.dev/gpu=all IMAGE PROGRAM`);
  return 0;
}
