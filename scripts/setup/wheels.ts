import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runOrFail } from "../process.ts";
import { toolCache } from "../repository.ts";

interface Wheel {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
}

export interface WheelFolder {
  /** Folder below the user's cache; a new version needs a new name. */
  readonly folder: string;
  readonly wheels: readonly Wheel[];
  /** Last touches on the unpacked files, before the folder gets its final name. */
  readonly finish: (folder: string) => void;
}

// A wheel's mode bits are optional, so `finish` sets those that matter. `*.data/scripts` is where wheels keep programs.
const unpack = `
import os, re, sys, zipfile
target = sys.argv[1]
for wheel in sys.argv[2:]:
    for entry in (archive := zipfile.ZipFile(wheel)).infolist():
        if entry.is_dir():
            continue
        path = os.path.join(target, re.sub(r"^[^/]+\\.data/(scripts|purelib|platlib|data)/", lambda m: "bin/" if m[1] == "scripts" else "", entry.filename))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(entry) as source, open(path, "wb") as copy:
            copy.write(source.read())
        mode = entry.external_attr >> 16 & 0o777
        os.chmod(path, mode | 0o600 if mode else 0o644)
`;

/**
 * Unpacks wheels from PyPI, each pinned by version and hash, into a folder of the user's cache.
 * The folder gets its name by a rename at the very end: one that is there is complete.
 */
export async function wheelFolder(request: WheelFolder): Promise<string> {
  const folder = join(toolCache, request.folder);
  if (existsSync(folder)) return folder;
  mkdirSync(toolCache, { recursive: true });
  const work = mkdtempSync(join(toolCache, `${request.folder}.partial-`));
  try {
    const requirements = join(work, "requirements.txt");
    const downloads = join(work, "wheels");
    const contents = join(work, "contents");
    writeFileSync(
      requirements,
      request.wheels
        .map((wheel) => `${wheel.name}==${wheel.version} --hash=sha256:${wheel.sha256}\n`)
        .join(""),
    );
    await runOrFail({
      command: "python3",
      arguments: [
        ...["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"],
        ...["--only-binary", ":all:", "--require-hashes", "-r", requirements, "-d", downloads],
      ],
      log: `download-${request.folder}`,
    });
    await runOrFail({
      command: "sh",
      arguments: ["-c", 'exec python3 -c "$0" "$1" "$2"/*.whl', unpack, contents, downloads],
      log: `unpack-${request.folder}`,
    });
    request.finish(contents);
    rename(contents, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** Two set-ups at once: the second finds the first one's complete folder and keeps it. */
function rename(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!existsSync(to)) throw error;
  }
}
