import { rmSync } from "node:fs";
import { FarpoolError } from "@farpool/contract";
import { print } from "../core/output.ts";
import { release } from "../pool/session-changes.ts";
import { attach, reserve } from "../run/run.ts";
import { toRunOptions, type ResourceOptions } from "./options.ts";
import { readReservationFile, writeReservationFile } from "./session-file.ts";

/** What the reference product was delivered with. */
const AUTO_RELEASE_MS = 600_000;

/** `bitfusion request_gpus`: a reserved session, which a file names. */
export function requestGpus(options: ResourceOptions): Promise<number> {
  return reserve({ ...toRunOptions(options), autoRelease: AUTO_RELEASE_MS }, (session) => {
    print(writeReservationFile(session).path);
  });
}

/** `bitfusion client`: runs in the reserved session. */
export function runInReservation(
  {
    file,
    isVerbose,
    isQuiet,
  }: { readonly file: string | undefined; readonly isVerbose: boolean; readonly isQuiet: boolean },
  words: readonly string[],
): Promise<number> {
  const { session } = readReservationFile(file);
  return attach({ isVerbose, isQuiet }, session, words[0] === "--" ? words.slice(1) : words);
}

/** `bitfusion release_gpus`: the file goes with the session, also when that is over already. */
export async function releaseGpus(file: string | undefined): Promise<number> {
  const { path, session } = readReservationFile(file);
  try {
    const exitCode = await release(false, session);
    rmSync(path, { force: true });
    return exitCode;
  } catch (error) {
    // With the pool away the GPUs are still reserved, and the file still says by which session.
    if (!(error instanceof FarpoolError) || error.code !== "FARPOOL_NOT_FOUND") throw error;
    rmSync(path, { force: true });
    throw new FarpoolError("FARPOOL_NOT_FOUND", `session ${session} of ${path} is over already`, {
      hint: null,
      cause: error,
    });
  }
}
