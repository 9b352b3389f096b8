/** What all commands share, for manual pages and docs/reference/cli.md. */

/** The day of VERSION: manual pages carry one. */
export const RELEASED = "2026-11-30";

export interface Fact {
  readonly name: string;
  readonly meaning: string;
}

/** After sysexits(3), so that scripts can tell what is worth another try. */
export const EXIT_CODES: readonly Fact[] = [
  { name: "0", meaning: "it is done" },
  { name: "64", meaning: "the command was called wrongly, or asks for what there is not" },
  { name: "69", meaning: "the pool, a server or a part of the installation is not available" },
  { name: "70", meaning: "a fault of Farpool's own" },
  { name: "75", meaning: "not now: worth another try later" },
  { name: "77", meaning: "not permitted" },
  { name: "126, 127", meaning: "of 'run': the program cannot be executed, or there is none of this name" },
  { name: "128 + n", meaning: "of 'run': signal n ended the program" },
];

export const ENVIRONMENT: readonly Fact[] = [
  {
    name: "FARPOOL_MANAGER",
    meaning:
      "the manager's address, unix:PATH or https://HOST:PORT; without it the pool is the one that was joined, else this machine's",
  },
  {
    name: "FARPOOL_TOKEN_FILE",
    meaning: "the file with an API token, for the manager that FARPOOL_MANAGER names",
  },
  {
    name: "FARPOOL_CA_FILE",
    meaning: "the certificate of that pool's authority, as 'farpool admin ca' prints it",
  },
  { name: "FARPOOL_DATABASE", meaning: "the PostgreSQL of 'up', in place of the embedded one" },
  { name: "FARPOOL_STATE", meaning: "the folder of keys, logs and database of this machine's pool" },
  { name: "FARPOOL_RUNTIME", meaning: "the folder of the sockets of this machine's pool" },
  {
    name: "FARPOOL_SESSION",
    meaning: "set by 'run' and 'shell' for their programs: the socket by which these find their session",
  },
  { name: "FARPOOL_DIST", meaning: "the folder with the built parts, when they are not beside this command" },
  { name: "FARPOOL_DEBUG", meaning: "1: a fault of Farpool's own is printed with its stack" },
];

export const FILES: readonly Fact[] = [
  { name: "/var/lib/farpool, ~/.local/share/farpool", meaning: "the state of root's and of a user's pool" },
  { name: "/run/farpool, $XDG_RUNTIME_DIR/farpool", meaning: "the sockets of root's and of a user's pool" },
  {
    name: "STATE/client-key.pem",
    meaning: "this client's key; whoever reads it can use what the client may",
  },
  {
    name: "STATE/client-membership.json, STATE/server-membership.json",
    meaning: "of a machine that has joined: the pool and the certificate",
  },
  { name: "STATE/server-key.pem", meaning: "the key of a server that has joined" },
  { name: "STATE/sign-in.json", meaning: "the token of who has signed in with 'farpool login'" },
  { name: "STATE/api-token", meaning: "the owner's token for the API over HTTPS" },
  { name: "STATE/logs", meaning: "one log per part of the pool, JSON lines" },
];
