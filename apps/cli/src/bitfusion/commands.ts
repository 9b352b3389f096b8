import { parseFilter, parseMemory, parseShare, VERSION } from "@farpool/contract";
import { authorityCommand } from "../commands/authority.ts";
import { doctorCommand } from "../commands/doctor.ts";
import { healthCommand, supportBundleCommand } from "../commands/health.ts";
import { serversCommand } from "../commands/joining.ts";
import { adminTokensCommand, adminUsersCommand } from "../commands/people.ts";
import { gpusCommand, smiCommand } from "../commands/pool.ts";
import { completed, defineCommand, flag, value, values } from "../core/command.ts";
import { wholeNumber } from "../core/parse-values.ts";
import { parseServerList } from "./server-list.ts";

const resourceOptions = {
  count: value("-n, --num_gpus <count>", "how many GPUs (default: 1)", wholeNumber("-n", 1, 100_000)),
  share: value("-p, --partial <share>", "a share of each GPU's memory, 0 < share ≤ 1", parseShare),
  memory: value("-m, --memory <MB>", "an amount of each GPU's memory, in MiB", parseMemory),
  servers: value("-l, --server_list <list>", "only GPUs of this server: ADDRESS:PORT", parseServerList),
  filters: values(
    "--filter <filter>",
    "only GPUs that have it, as 'device.phy-memory>=40960'; repeatable",
    parseFilter,
  ),
  isVerbose: flag("-v, --verbose", "say what happens, also when stderr is no terminal"),
  isQuiet: flag("-q, --quiet", "say nothing but errors"),
} as const;

const fileOption = {
  file: completed(
    value(
      "-f, --file <file>",
      "the file of the reservation (default: BF_ADAPTOR_CONFIG, else the only one there is)",
      String,
    ),
    "file",
  ),
} as const;

/**
 * The commands of the reference product, for unit files and scripts that call them. Each is one of Farpool's, whose
 * messages, exit codes and waiting it has.
 */
export const BITFUSION_COMMANDS = defineCommand({
  name: "bitfusion",
  summary:
    "The reference product's commands, as Farpool does them. New scripts are better off with 'farpool'.",
  commands: [
    defineCommand({
      name: "run",
      summary: "take GPUs, run a program with them, give them back",
      arguments: "[command...]",
      passThrough: true,
      candidates: "program",
      options: resourceOptions,
      details: [
        "The program gets BF_ADAPTOR_CONFIG: a file that names the session, for nobody but this user. While others may read",
        "that file ('chmod 644'), their programs may use the session, too, with the same environment.",
      ].join("\n"),
      run: async ({ options, arguments: words }) => (await import("./run.ts")).run(options, words),
    }),
    defineCommand({
      name: "request_gpus",
      summary: "take GPUs that stay taken without a program; prints the file that names them",
      options: resourceOptions,
      details: "Given back when nothing was run in them for 10 minutes.",
      run: async ({ options }) => (await import("./reservation.ts")).requestGpus(options),
    }),
    defineCommand({
      name: "client",
      summary: "run a program with the GPUs that request_gpus took",
      arguments: "[command...]",
      passThrough: true,
      candidates: "program",
      options: { ...fileOption, isVerbose: resourceOptions.isVerbose, isQuiet: resourceOptions.isQuiet },
      run: async ({ options, arguments: words }) =>
        (await import("./reservation.ts")).runInReservation(options, words),
    }),
    defineCommand({
      name: "release_gpus",
      summary: "give the GPUs back that request_gpus took",
      options: fileOption,
      run: async ({ options }) => (await import("./reservation.ts")).releaseGpus(options.file),
    }),
    { ...gpusCommand, name: "list_gpus" },
    smiCommand,
    healthCommand,
    { ...doctorCommand, name: "local_health" },
    { ...serversCommand, name: "stats" },
    defineCommand({
      name: "netperf",
      summary: "measure calls and copies to each server, and check the pool",
      run: async () => (await import("../health/health.ts")).health({ isJson: false, isMeasured: true }),
    }),
    { ...supportBundleCommand, name: "crashreport" },
    { ...authorityCommand, name: "tls-certs" },
    { ...adminUsersCommand, name: "user" },
    { ...adminTokensCommand, name: "token" },
    defineCommand({
      name: "version",
      summary: "print the version",
      run: async () => {
        const { print } = await import("../core/output.ts");
        print(`farpool ${VERSION}, called bitfusion`);
        return 0;
      },
    }),
  ],
});
