import { defineCommand, flag } from "../core/command.ts";
import { jsonOption } from "./pool.ts";

export const authorityCommand = defineCommand({
  name: "ca",
  summary: "the pool's certificate authority: its certificate, how long it is good, and changing it",
  options: jsonOption,
  details: [
    "Without a command it prints the certificates of the authorities that the pool trusts, for FARPOOL_CA_FILE.",
    "Changing the authority takes two commands. After 'rotate' both are trusted, and machines get to know the new one by",
    "themselves; after 'finish' the new one signs everything, and a day later the old one is trusted no longer. Programs go on.",
  ].join("\n"),
  run: async ({ options }) => (await import("../people/authority.ts")).authority(options.isJson),
  commands: [
    defineCommand({
      name: "status",
      summary: "until when the authorities are good, and how far a change is",
      options: jsonOption,
      run: async ({ options }) => (await import("../people/authority.ts")).authorityStatus(options.isJson),
    }),
    defineCommand({
      name: "rotate",
      summary: "make a new authority; both are trusted from now on",
      options: jsonOption,
      run: async ({ options }) => (await import("../people/authority.ts")).rotateAuthority(options.isJson),
    }),
    defineCommand({
      name: "finish",
      summary: "let the new authority take over, when all machines know it",
      options: {
        ...jsonOption,
        isForced: flag("--force", "although some do not: they have to join again"),
      },
      run: async ({ options }) =>
        (await import("../people/authority.ts")).finishRotation(options.isJson, options.isForced),
    }),
  ],
});
