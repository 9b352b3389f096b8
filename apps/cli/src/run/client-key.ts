import { randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { FarpoolError } from "@farpool/contract";
import { exportSigningKey, generateSigningKey, importSigningKey, type SigningKey } from "@farpool/identity";

/**
 * The key by which the pool knows this machine, or this person's part of it. It is made at the first use, never
 * leaves its file and this process, and signs what lets a program into a session.
 */
export function readOrCreateClientKey(file: string): SigningKey {
  try {
    return read(file) ?? create(file);
  } catch (cause) {
    if (cause instanceof FarpoolError) throw cause;
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    const isOurs = code === "EACCES" || code === "EPERM" || code === "EROFS";
    const why = code === "" && cause instanceof Error ? cause.message : code;
    throw new FarpoolError(
      isOurs ? "FARPOOL_NOT_PERMITTED" : "FARPOOL_UNAVAILABLE",
      `the key of this client, ${file}, can be neither read nor made (${why})`,
      { hint: "FARPOOL_STATE names another folder for it", cause },
    );
  }
}

function read(file: string): SigningKey | undefined {
  const status = statSync(file, { throwIfNoEntry: false });
  if (status === undefined) return undefined;
  if ((status.mode & 0o077) !== 0) {
    const mode = (status.mode & 0o777).toString(8).padStart(4, "0");
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `others may read the key of this client: ${file} has mode ${mode}`,
      {
        hint: `remove it to get a new one; if nobody has read it, chmod 600 ${file}`,
      },
    );
  }
  try {
    return importSigningKey(readFileSync(file, "utf8"));
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && String(cause.code).startsWith("E") && "syscall" in cause)
      throw cause;
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `${file} is not the private key of a client`, {
      hint: "remove it to get a new one; the pool will know this client by that",
      cause,
    });
  }
}

/** Of two that start at once one wins: a link is made or exists, and what it names is complete. */
function create(file: string): SigningKey {
  // The state folder may be passed through, not listed (layout).
  mkdirSync(dirname(file), { recursive: true, mode: 0o711 });
  const key = generateSigningKey();
  const own = `${file}.${process.pid}-${randomBytes(4).toString("hex")}`;
  writeFileSync(own, exportSigningKey(key), { mode: 0o600, flag: "wx" });
  try {
    linkSync(own, file);
    return key;
  } catch (error) {
    const other = read(file);
    if (other === undefined) throw error;
    return other;
  } finally {
    rmSync(own, { force: true });
  }
}
