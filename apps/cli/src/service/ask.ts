import { connect } from "node:net";
import { FarpoolError, type Session } from "@farpool/contract";
import { servicePlaces, type ServicePlaces, type ServiceScope } from "@farpool/layout";
import { PROTOCOL } from "../run/broker.ts";

const ANSWER_TIMEOUT_MS = 10_000;
/** The exit code by which a service says that somebody may not. */
const NOT_PERMITTED = 77;

/** What a service says of itself. */
export interface ServiceStatus {
  readonly version: string;
  readonly scope: ServiceScope;
  readonly state: string;
  readonly sentence: string;
  readonly waiting: number;
  readonly hold: string;
  readonly idleTimeout: string | null;
  readonly allowed: string;
  readonly configuration: string;
  readonly session: Session | null;
  readonly processes: ReadonlyArray<{ readonly pid: number; readonly uid: number; readonly program: string }>;
  readonly you: { readonly uid: number; readonly refusal: string | null };
}

/** A service that listens, and what came of asking it. */
export type AskedService =
  | { readonly scope: ServiceScope; readonly status: ServiceStatus }
  | { readonly scope: ServiceScope; readonly status: undefined; readonly trouble: FarpoolError };

/** Those that there are, in the order in which programs look. Takes no longer than `timeoutMs`. */
export async function askServices(
  scopes: readonly ServiceScope[],
  timeoutMs?: number,
  environment = process.env,
): Promise<readonly AskedService[]> {
  const asked = await Promise.all(
    scopes.map((scope) => ask(scope, servicePlaces(scope, environment), timeoutMs)),
  );
  return asked.filter((each) => each !== undefined);
}

async function ask(
  scope: ServiceScope,
  { socket }: ServicePlaces,
  timeoutMs: number | undefined,
): Promise<AskedService | undefined> {
  try {
    const lines = await askService(socket, "status", timeoutMs);
    if (lines === undefined) return undefined;
    const json = lines.find((line) => line.startsWith("json "))?.slice("json ".length);
    const status = JSON.parse(json ?? "") as ServiceStatus;
    return { scope: status.scope, status };
  } catch (cause) {
    if (cause instanceof FarpoolError) return { scope, status: undefined, trouble: cause };
    const message = `the service at ${socket} told no status that this command understands`;
    const hint = "it may be of another version: 'farpool service restart' starts this one";
    const trouble = new FarpoolError("FARPOOL_UNAVAILABLE", message, { hint, cause });
    return { scope, status: undefined, trouble };
  }
}

/** Asks the service behind a socket; the lines of its answer. Undefined: nobody is there. */
export async function askService(
  socket: string,
  want: "status" | "logs",
  timeoutMs = ANSWER_TIMEOUT_MS,
): Promise<readonly string[] | undefined> {
  const request = `${PROTOCOL}\npid ${process.pid}\nprogram farpool\nwant ${want}\n\n`;
  const text = await exchange(socket, request, timeoutMs);
  if (text === undefined) return undefined;
  const [first = "", ...lines] = text.split("\n").filter((line) => line !== "");
  if (first === "ok") return lines;
  if (first === "") throw brokenOff(socket, "it closed the connection without an answer");
  const [, exitCode, sentence] = /^error (\d+) \S+ (.*)$/.exec(first) ?? [];
  if (sentence === undefined) throw brokenOff(socket, `it answered '${first.slice(0, 80)}', expected 'ok'`);
  const code = Number(exitCode) === NOT_PERMITTED ? "FARPOOL_NOT_PERMITTED" : "FARPOOL_UNAVAILABLE";
  throw new FarpoolError(code, sentence, { hint: null });
}

function exchange(path: string, request: string, timeoutMs: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(path, () => socket.write(request));
    // Of the whole answer: a service that says a little now and then is as bad as a silent one.
    const timer = setTimeout(() => {
      socket.destroy();
      const message = `the service at ${path} did not answer within ${timeoutMs / 1_000} s`;
      const hint =
        "'systemctl status farpool-client.service' tells whether it starts (a person's own: 'systemctl --user …')";
      reject(new FarpoolError("FARPOOL_UNAVAILABLE", message, { hint }));
    }, timeoutMs);
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.once("end", () => resolve(text));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (["ENOENT", "ECONNREFUSED", "EACCES", "ENOTSOCK"].includes(error.code ?? "")) resolve(undefined);
      else reject(brokenOff(path, error.code ?? error.message, error));
    });
    socket.once("close", () => clearTimeout(timer));
  });
}

function brokenOff(path: string, why: string, cause?: unknown): FarpoolError {
  return new FarpoolError("FARPOOL_UNAVAILABLE", `the service at ${path} gave no answer: ${why}`, {
    hint: "it may have been restarted just now: the same command again tells",
    cause,
  });
}
