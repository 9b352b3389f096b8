import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  clientKeyFile,
  serverKeyFile,
  signInFile,
  tokenFile,
  workerIdentityFile,
  type PoolFolders,
} from "@farpool/layout";

/** Takes secrets out of text: those of this pool wherever they stand, and whatever has the form of one. */
export type Redact = (text: string) => string;

const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;
const GONE = "[removed]";

const FORMS: ReadonlyArray<readonly [form: RegExp, instead: string]> = [
  [PRIVATE_KEY, GONE],
  // A compact JWS: grants, tokens of sign-in.
  [/\beyJ[\w-]{16,}(?:\.[\w-]+)*/g, GONE],
  // The signature of one, by itself.
  [/(?<![\w-])[\w-]{86}(?![\w-])/g, GONE],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${GONE}`],
  // A password in an address: postgres://user:password@host.
  [/(\b[a-z][\w+.-]*:\/\/[^\s:@/"']*:)[^\s@"']+@/gi, `$1${GONE}@`],
  // What lets a machine join, or a person sign in: the address and the authority's hash stay.
  [/(\bfarpool:\/\/[^\s/]+\/(?:server|client)\/[\w-]{43}\/)[\w-]{43}/g, `$1${GONE}`],
  [/(\/login#[\w-]{43}\.)[\w-]{43}/g, `$1${GONE}`],
  // Session secrets and routing tokens: 32 bytes in hexadecimal.
  [/\b[0-9a-f]{64}\b/gi, GONE],
  [
    /((?:\\?["'])?\b\w*(?:password|passwd|secret|private_?key|api_?key|access_?key|credential|cookie|authorization)\w*(?:\\?["'])?\s*[:=]\s*)(?:\\?"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,}&{["'\\][^\s,}&"'\\]*)/gi,
    `$1"${GONE}"`,
  ],
  [
    /((?:\\?["'])?\b\w*token(?:\\?["'])?\s*[:=]\s*)(?:\\?"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,}&{["'\\][^\s,}&"'\\]*)/gi,
    `$1"${GONE}"`,
  ],
];

export function createRedact(folders: PoolFolders, environment: NodeJS.ProcessEnv): Redact {
  const known = knownSecrets(folders, environment);
  return (text) => {
    let clean = text;
    for (const secret of known) clean = clean.replaceAll(secret, GONE);
    for (const [form, instead] of FORMS) clean = clean.replaceAll(form, instead);
    return clean;
  };
}

/** The texts themselves, the longest first: one may be a part of another. */
function knownSecrets(folders: PoolFolders, environment: NodeJS.ProcessEnv): readonly string[] {
  const wholeFiles = [
    tokenFile(folders),
    join(folders.state, "postgres/password"),
    environment["FARPOOL_TOKEN_FILE"] ?? "",
  ];
  const tokens = wholeFiles.map((file) => readQuietly(file).trim());
  const signIn = /"token": *"([^"]+)"/.exec(readQuietly(signInFile(folders)))?.[1] ?? "";
  const keys = [clientKeyFile(folders), serverKeyFile(folders), workerIdentityFile(folders)].flatMap((file) =>
    [...readQuietly(file).matchAll(PRIVATE_KEY)].flatMap(([block]) => bodyOf(block)),
  );
  return [...new Set([...tokens, signIn, ...keys])]
    .filter((secret) => secret.length >= 8)
    .toSorted((a, b) => b.length - a.length);
}

/** A key's lines, together and one by one: a log may have broken or joined them. */
function bodyOf(block: string): string[] {
  const lines = block.split("\n").filter((line) => line !== "" && !line.startsWith("-----"));
  return [lines.join(""), ...lines];
}

function readQuietly(file: string): string {
  try {
    return file !== "" && existsSync(file) ? readFileSync(file, "utf8") : "";
  } catch {
    // What this user may not read is not in what this user gathers.
    return "";
  }
}
