import { FarpoolError } from "@farpool/contract";
import { run as runInSession } from "../run/run.ts";
import { toRunOptions, type ResourceOptions } from "./options.ts";
import { writeSessionFile, type SessionFile } from "./session-file.ts";

/** `bitfusion run`: `farpool run`, with a file that names the session. */
export function run(options: ResourceOptions, words: readonly string[]): Promise<number> {
  if (words.length === 0) {
    throw new FarpoolError("FARPOOL_USAGE", "run needs a program", {
      hint: "bitfusion run -n 1 -- PROGRAM ARGUMENTS",
    });
  }
  let file: SessionFile | undefined;
  return runInSession(toRunOptions(options), words, {
    begin(session) {
      file = writeSessionFile(session);
      return { BF_ADAPTOR_CONFIG: file.path };
    },
    isOpenToOthers: () => file?.isReadableByOthers() ?? false,
    end: () => file?.remove(),
  });
}
