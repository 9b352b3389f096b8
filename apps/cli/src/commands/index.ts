import { COMMAND_NAME } from "@farpool/contract";
import { defineCommand } from "../core/command.ts";
import { adminCommand } from "./admin.ts";
import { completionCommand } from "./completion.ts";
import { doctorCommand } from "./doctor.ts";
import { healthCommand, supportBundleCommand } from "./health.ts";
import { internalCommand } from "./internal.ts";
import { gpusCommand, smiCommand, statusCommand } from "./pool.ts";
import { queueCommand } from "./queue.ts";
import { clientsCommand, joinCommand, leaveCommand, serverCommand, serversCommand } from "./joining.ts";
import { loginCommand, logoutCommand, usersCommand, whoamiCommand } from "./people.ts";
import { runCommand, shellCommand } from "./run.ts";
import { attachCommand, releaseCommand, reserveCommand } from "./reserve.ts";
import { jupyterCommand, serviceCommand } from "./service.ts";
import { sessionsCommand } from "./sessions.ts";
import { usageCommand } from "./usage.ts";
import { downCommand, upCommand } from "./up.ts";

export const COMMANDS = defineCommand({
  name: COMMAND_NAME,
  summary: "A pool of GPUs over the network: programs run here, their CUDA calls execute where the GPUs are.",
  details:
    "First steps: 'farpool up' starts a pool on this machine, 'farpool run -n 1 -- PROGRAM' uses a GPU of it.",
  commands: [
    runCommand,
    shellCommand,
    reserveCommand,
    attachCommand,
    releaseCommand,
    statusCommand,
    gpusCommand,
    smiCommand,
    sessionsCommand,
    usageCommand,
    queueCommand,
    serversCommand,
    clientsCommand,
    usersCommand,
    joinCommand,
    leaveCommand,
    serverCommand,
    loginCommand,
    logoutCommand,
    whoamiCommand,
    adminCommand,
    doctorCommand,
    healthCommand,
    serviceCommand,
    jupyterCommand,
    supportBundleCommand,
    upCommand,
    downCommand,
    completionCommand,
    internalCommand,
  ],
});
