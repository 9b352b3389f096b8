import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export async function list(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listGroups", {}));
  const rows = answer.groups.map(({ name, users }) => [name, users.length === 0 ? "-" : users.join(" ")]);
  if (isJson) printJson(answer);
  else print(rows.length === 0 ? "no groups" : table(["GROUP", "USERS"], rows));
  return 0;
}

export async function add(name: string, users: readonly string[]): Promise<number> {
  const group = await withPool((client) => client.call("changeGroup", { body: { name, add: [...users] } }));
  say(`group ${group.name}: ${group.users.join(" ")}`);
  return 0;
}

export async function remove(name: string, users: readonly string[]): Promise<number> {
  if (users.length === 0) {
    await withPool((client) => client.call("removeGroup", { body: { name } }));
    say(`group ${name} is removed, and its policy with it`);
    return 0;
  }
  const group = await withPool((client) =>
    client.call("changeGroup", { body: { name, remove: [...users] } }),
  );
  say(`group ${group.name}: ${group.users.length === 0 ? "nobody" : group.users.join(" ")}`);
  return 0;
}
