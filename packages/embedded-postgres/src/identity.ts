import { readFileSync } from "node:fs";

/** Who PostgreSQL runs as: itself refuses root, and initdb wants an account with a name. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

const PREFERRED_ACCOUNTS = ["farpool", "postgres", "nobody"];

/** Undefined: as the current user, who is not root. */
export function unprivilegedIdentity(passwdFile = "/etc/passwd"): Identity | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = new Map<string, Identity>();
  for (const line of readFileSync(passwdFile, "utf8").split("\n")) {
    const [name, , uid, gid] = line.split(":");
    if (name !== undefined && uid !== undefined && gid !== undefined && uid !== "0") {
      accounts.set(name, { uid: Number(uid), gid: Number(gid) });
    }
  }
  for (const name of PREFERRED_ACCOUNTS) {
    const identity = accounts.get(name);
    if (identity !== undefined) return identity;
  }
  throw new Error(
    `the embedded PostgreSQL does not run as root and none of the accounts ${PREFERRED_ACCOUNTS.join(", ")} exists; create one, or use --database`,
  );
}
