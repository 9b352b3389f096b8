import { FarpoolError, parseFilter, type Filter } from "@farpool/contract";

/** `--server_list`: one address, whose port the manager knows better. */
export function parseServerList(text: string): Filter {
  const servers = text.split(/[;,]/).filter((server) => server.trim() !== "");
  const [address = "", port] = (servers[0] ?? "").trim().split(":");
  if (servers.length > 1) {
    throw new FarpoolError(
      "FARPOOL_NOT_SUPPORTED",
      `--server_list with ${servers.length} servers is not supported: the manager chooses the server, or one is named`,
      { hint: "leave it out, or name a property that the servers share: --filter 'server.label.rack=r7'" },
    );
  }
  if (!/^[\w.-]+$/.test(address) || (port !== undefined && !/^\d{1,5}$/.test(port))) {
    throw new FarpoolError("FARPOOL_USAGE", `--server_list takes ADDRESS:PORT, not '${text.slice(0, 100)}'`, {
      hint: "--server_list 192.168.1.100:56001",
    });
  }
  return parseFilter(`server.addr=${address}`);
}
