import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { ServicePlaces, ServiceScope } from "@farpool/layout";
import { forExecStart } from "./quoting.ts";
import { SERVICE_UNIT, SOCKET_UNIT } from "./systemd.ts";

/** Where a package puts units; those of an administrator are in /etc. */
const SHIPPED_UNITS = "/usr/lib/systemd/system";

/** Before the distribution's own lines, which begin with letters: the shim steps aside where a driver is wanted. */
export const LOADER_FILE = "/etc/ld.so.conf.d/00-farpool.conf";
export const POLICY_FILE = "/etc/polkit-1/rules.d/50-farpool-client.rules";

export interface InstalledFile {
  readonly path: string;
  readonly text: string;
  /** 0644 where nothing is said. */
  readonly mode?: number;
}

/** How the service is started: by this Node, from where it lies now. */
export interface ServiceProgram {
  readonly node: string;
  readonly cli: string;
}

/** Both units, unless a package has brought them. */
export function unitFiles(places: ServicePlaces, program: ServiceProgram): readonly InstalledFile[] {
  if (places.scope === "system" && existsSync(join(SHIPPED_UNITS, SOCKET_UNIT))) return [];
  const folder =
    places.scope === "system"
      ? "/etc/systemd/system"
      : join(process.env["XDG_CONFIG_HOME"] || join(homedir(), ".config"), "systemd/user");
  return [
    { path: join(folder, SOCKET_UNIT), text: socketUnit(places) },
    { path: join(folder, SERVICE_UNIT), text: serviceUnit(places.scope, program) },
  ];
}

export function socketUnit({ scope, socket }: ServicePlaces): string {
  const isSystem = scope === "system";
  return `[Unit]
Description=GPUs of the Farpool pool: where programs ask for them

[Socket]
ListenStream=${isSystem ? socket : socket.replace(dirname(dirname(socket)), "%t")}
# The kernel says who asks; the service decides.
SocketMode=${isSystem ? "0666" : "0600"}
DirectoryMode=${isSystem ? "0755" : "0700"}
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
`;
}

export function serviceUnit(scope: ServiceScope, { node, cli }: ServiceProgram): string {
  return `[Unit]
Description=GPUs of the Farpool pool for ${scope === "system" ? "the users of this machine" : "%u"}
Requires=${SOCKET_UNIT}
After=${SOCKET_UNIT}${scope === "system" ? " network.target" : ""}
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=${forExecStart(node)} ${forExecStart(cli)} internal client-service ${scope}
Restart=on-failure
RestartSec=1
# What its file says is wrong, or it may not read its key: trying again changes nothing.
RestartPreventExitStatus=64 77
KillMode=mixed
TimeoutStopSec=20
${scope === "system" ? SYSTEM_HARDENING : "NoNewPrivileges=yes\n"}
[Install]
WantedBy=${scope === "system" ? "multi-user.target" : "default.target"}
Also=${SOCKET_UNIT}
`;
}

/** It is root by its files alone: no capability, no other place to write to. A checkout in a home is an installation, too. */
const SYSTEM_HARDENING = `StateDirectory=farpool
StateDirectoryMode=0711
CacheDirectory=farpool
Environment=XDG_CACHE_HOME=/var/cache/farpool
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
`;

/** Members of the group may restart the service, and neither stop nor change it. */
export function managePolicy(group: string): string {
  return `// Written by 'farpool service install --manage-group ${group}'.
polkit.addRule(function (action, subject) {
  if (
    action.id == "org.freedesktop.systemd1.manage-units" &&
    action.lookup("unit") == "${SERVICE_UNIT}" &&
    action.lookup("verb") == "restart" &&
    subject.isInGroup(${JSON.stringify(group)})
  )
    return polkit.Result.YES;
});
`;
}
