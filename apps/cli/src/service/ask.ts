import { connect } from "node:net";
import { FarpoolError } from "@farpool/contract";
import { PROTOCOL } from "../run/broker.ts";

const ANSWER_TIMEOUT_MS = 10_000;
/** The exit code by which a service says that somebody may not. */
const NOT_PERMITTED = 77;

/** Asks the service behind a socket; the lines of its answer. Undefined: nobody is there. */
export async function askService(
  socket: string,
  want: "status" | "logs",
): Promise<readonly string[] | undefined> {
  const text = await exchange(socket, `${PROTOCOL}\npid ${process.pid}\nprogram farpool\nwant ${want}\n\n`);
  if (text === undefined) return undefined;
  const [first = "", ...lines] = text.split("\n").filter((line) => line !== "");
  if (first === "ok") return lines;
  const [, exitCode, sentence] = /^error (\d+) \S+ (.*)$/.exec(first) ?? [];
  if (sentence === undefined) throw brokenOff(socket, `it answered '${first.slice(0, 80)}', expected 'ok'`);
  const code = Number(exitCode) === NOT_PERMITTED ? "FARPOOL_NOT_PERMITTED" : "FARPOOL_UNAVAILABLE";
  throw new FarpoolError(code, sentence, { hint: null });
}

function exchange(path: string, request: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(path, () => socket.write(request));
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => {
      socket.destroy();
      reject(
        new FarpoolError("FARPOOL_UNAVAILABLE", `the service at ${path} did not answer within 10 s`, {
          hint: "'systemctl status farpool-client.service' tells whether it starts",
        }),
      );
    });
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.once("end", () => resolve(text));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else if (error.code === "EACCES") resolve(undefined);
      else reject(brokenOff(path, error.code ?? error.message, error));
    });
  });
}

function brokenOff(path: string, why: string, cause?: unknown): FarpoolError {
  return new FarpoolError("FARPOOL_UNAVAILABLE", `the service at ${path} gave no answer: ${why}`, {
    hint: "it may have been restarted just now: the same command again tells",
    cause,
  });
}
