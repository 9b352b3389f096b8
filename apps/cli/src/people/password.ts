import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { FarpoolError } from "@farpool/contract";

/** From the terminal, without showing it; or all of stdin, for programs. Never from an argument: others see those. */
export async function readPassword(prompt: string, isFromStdin: boolean): Promise<string> {
  if (isFromStdin) return (await text(process.stdin)).replace(/\r?\n$/, "");
  if (!process.stdin.isTTY)
    throw new FarpoolError("FARPOOL_USAGE", "there is no terminal to ask for the password", {
      hint: "--password-stdin reads it from stdin",
    });
  process.stderr.write(prompt);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once("line", resolve);
      lines.once("SIGINT", () =>
        reject(new FarpoolError("FARPOOL_USAGE", "no password was given", { hint: null })),
      );
      lines.once("close", () =>
        reject(new FarpoolError("FARPOOL_USAGE", "no password was given", { hint: null })),
      );
    });
  } finally {
    lines.close();
    process.stderr.write("\n");
  }
}

/** A new one is typed twice, where a person types it. */
export async function readNewPassword(user: string, isFromStdin: boolean): Promise<string> {
  const first = await readPassword(`new password of ${user}: `, isFromStdin);
  if (isFromStdin) return first;
  const second = await readPassword("once more: ", false);
  if (first === second) return first;
  throw new FarpoolError("FARPOOL_USAGE", "the two passwords differ; nothing was changed", { hint: null });
}
