import { randomInt } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { FarpoolError, sessionIdSchema, type Session, type SessionId } from "@farpool/contract";
import * as z from "zod";

const fileSchema = z.object({ session: sessionIdSchema, gpus: z.array(z.string()) });

/** What `BF_ADAPTOR_CONFIG` names: which session, and its GPUs. It holds no secret, and tells by its mode who may use the session. */
export interface SessionFile {
  readonly path: string;
  isReadableByOthers(): boolean;
  remove(): void;
}

/** Below the folder of temporary files, where other users find it. */
export function writeSessionFile(session: Session): SessionFile {
  return write(join(tmpdir(), `bitfusion${randomInt(100_000_000, 1_000_000_000)}`), session);
}

/** In the user's own folder, where the next command finds it. */
export function writeReservationFile(session: Session): SessionFile {
  const path = join(reservationFolder(), `reservation-${session.id}`);
  try {
    mkdirSync(reservationFolder(), { recursive: true, mode: 0o700 });
    return write(path, session);
  } catch (cause) {
    throw new FarpoolError(
      "FARPOOL_UNAVAILABLE",
      `the GPUs are reserved, and ${path} cannot be written (${codeOf(cause)})`,
      { hint: `'farpool release ${session.id}' gives them back`, cause },
    );
  }
}

function write(path: string, { id, gpus }: Session): SessionFile {
  writeFileSync(path, `${JSON.stringify({ session: id, gpus: gpus.map(({ uuid }) => uuid) }, null, 2)}\n`, {
    flag: "wx",
    mode: 0o600,
  });
  return {
    path,
    isReadableByOthers() {
      try {
        return (statSync(path).mode & 0o004) !== 0;
      } catch {
        return false;
      }
    },
    remove: () => rmSync(path, { force: true }),
  };
}

const reservationFolder = (): string => join(homedir(), ".bitfusion");

/** The reservation that is meant: the file that was named, or the only one. */
export function readReservationFile(named: string | undefined): {
  readonly path: string;
  readonly session: SessionId;
} {
  const variable = process.env["BF_ADAPTOR_CONFIG"];
  const path = named ?? (variable === "" ? undefined : variable) ?? theOnlyOne();
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new FarpoolError(
      "FARPOOL_USAGE",
      `the file of the reservation, ${path}, cannot be read (${codeOf(cause)})`,
      {
        hint: "'bitfusion request_gpus' prints the file that it writes",
        cause,
      },
    );
  }
  try {
    return { path, session: fileSchema.parse(JSON.parse(text)).session };
  } catch (cause) {
    throw new FarpoolError("FARPOOL_USAGE", `${path} is no file of a reservation`, {
      hint: "'bitfusion request_gpus' prints the file that it writes",
      cause,
    });
  }
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
}

function theOnlyOne(): string {
  const folder = reservationFolder();
  const names = list(folder).filter((name) => name.startsWith("reservation-"));
  const [name] = names;
  if (name !== undefined && names.length === 1) return join(folder, name);
  if (name === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", "no GPUs are reserved by this user", {
      hint: "'bitfusion request_gpus -n 1' reserves one",
    });
  }
  throw new FarpoolError("FARPOOL_USAGE", `there are ${names.length} reservations: ${names.join(", ")}`, {
    hint: `-f says which: -f ${join(folder, name)}`,
  });
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
