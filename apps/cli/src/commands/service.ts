import { parseFilter, parseMemory, parseShare } from "@farpool/contract";
import { completed, defineCommand, flag, value, values } from "../core/command.ts";
import { holdMode } from "../core/parse-policies.ts";
import { accountName, durationOrNone, oneOf, projectName, wholeNumber } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

const scopes = {
  isSystem: flag("--system", "for all users of this machine (root; root's default)"),
  isUser: flag("--user", "for yourself"),
} as const;

const SHELLS = ["sh", "fish", "csh", "systemd", "docker"] as const;

const sizes = {
  count: value("-n, --num-gpus <count>", "how many GPUs", wholeNumber("-n", 1, 100_000)),
  share: value("-p, --partial <share>", "a share of each GPU's memory, 0 < share ≤ 1", parseShare),
  memory: value("-m, --memory <size>", "an amount of each GPU's memory", parseMemory),
} as const;

const install = defineCommand({
  name: "install",
  summary: "set up the client service: after login GPUs of the pool are simply there",
  options: {
    ...scopes,
    ...sizes,
    filters: values("--filter <filter>", "which GPUs will do: gpu.memory>=40GiB", parseFilter),
    project: value("--project <project>", "whom its use is charged to", projectName),
    hold: completed(
      value("--hold <always|on-demand>", "from start to stop, or while programs need them", holdMode),
      ["always", "on-demand"],
    ),
    idleTimeout: value(
      "--idle-timeout <duration>",
      "on demand: given back after so long without a program (default: 30m; 0: never)",
      durationOrNone("--idle-timeout"),
    ),
    idleAction: completed(
      value(
        "--idle-action <keep|end>",
        "what becomes of programs that leave their GPU idle (default: keep)",
        oneOf("--idle-action", ["keep", "end"]),
      ),
      ["keep", "end"],
    ),
    allowUsers: values(
      "--allow-user <account>",
      "only for this account, and others so named",
      accountName("--allow-user"),
    ),
    allowGroups: values(
      "--allow-group <group>",
      "only for members of this group, and others so named",
      accountName("--allow-group"),
    ),
    manageGroup: value(
      "--manage-group <group>",
      "its members may restart the service, not stop it",
      accountName("--manage-group"),
    ),
    localGpu: completed(
      value(
        "--local-gpu <first|pool-first|off>",
        "where this machine has a driver of its own: which GPUs programs get (asked; without a terminal: first)",
        oneOf("--local-gpu", ["first", "pool-first", "off"]),
      ),
      ["first", "pool-first", "off"],
    ),
    isProfile: flag("--profile", "also set LD_LIBRARY_PATH in login shells"),
  },
  examples: [
    { line: "sudo farpool service install --system -n 1 --hold on-demand", does: "a GPU for who needs one" },
    { line: "farpool service install --user -n 1 -p 0.25", does: "a quarter of a GPU for yourself, always" },
  ],
  details:
    "What is not said here the manager's specification of this client says, which nothing here can exceed. " +
    "Called again it replaces what was said before.",
  run: async ({ options }) => (await import("../service/install.ts")).install(options),
});

const verb = (name: "start" | "stop" | "restart", summary: string) =>
  defineCommand({
    name,
    summary,
    options: scopes,
    run: async ({ options }) => (await import("../service/control.ts")).control(name, options),
  });

export const serviceCommand = defineCommand({
  name: "service",
  summary: "GPUs of the pool that are simply there after login",
  commands: [
    install,
    defineCommand({
      name: "status",
      summary: "what the service has, who uses it, and where your programs get their GPUs",
      options: { ...scopes, ...jsonOption },
      run: async ({ options }) => (await import("../service/status.ts")).status(options),
    }),
    verb("start", "start the service"),
    verb("stop", "stop the service: its programs lose their GPUs"),
    verb("restart", "read its file again; programs go on"),
    defineCommand({
      name: "logs",
      summary: "what the service has said lately",
      options: { ...scopes, ...jsonOption },
      run: async ({ options }) => (await import("../service/control.ts")).logs(options),
    }),
    defineCommand({
      name: "env",
      summary: "print what finds our libcuda where the loader's cache does not have it",
      options: {
        shell: completed(
          value("--shell <shell>", "sh (default), fish, csh, systemd or docker", oneOf("--shell", SHELLS)),
          SHELLS,
        ),
      },
      run: async ({ options }) => (await import("../service/control.ts")).environment(options.shell ?? "sh"),
    }),
    defineCommand({
      name: "cdi",
      summary: "let containers use the service: podman run --device farpool.dev/gpu=all",
      options: {
        isPrinted: flag("--print", "print the specification instead of writing /etc/cdi/farpool.yaml"),
        isRemoved: flag("--remove", "remove it"),
      },
      run: async ({ options }) => (await import("../service/cdi.ts")).cdi(options),
    }),
    defineCommand({
      name: "uninstall",
      summary: "remove the service and every file of it but its log",
      options: scopes,
      run: async ({ options }) => (await import("../service/install.ts")).uninstall(options),
    }),
  ],
});

export const jupyterCommand = defineCommand({
  name: "jupyter",
  summary: "Jupyter kernels with GPUs of the pool",
  commands: [
    defineCommand({
      name: "install",
      summary: "add a kernel that runs in a session of its own",
      options: {
        ...sizes,
        name: value("--name <name>", "what Jupyter calls it (default: Python (GPU))", String),
        python: completed(
          value("--python <program>", "the Python it runs (default: python3)", String),
          "program",
        ),
        isRemoved: flag("--remove", "remove the kernel of this name"),
      },
      run: async ({ options }) => (await import("../service/jupyter.ts")).installKernel(options),
    }),
  ],
});
