import { FarpoolError, type Group } from "@farpool/contract";
import { inPlacement, type Database } from "../database/connect.ts";
import { recordAudit } from "../identity/audit.ts";

export async function listGroups(db: Database): Promise<Group[]> {
  const [groups, members] = await Promise.all([
    db.selectFrom("user_groups").select("name").orderBy("name").execute(),
    db.selectFrom("user_group_members").selectAll().orderBy("user_name").execute(),
  ]);
  return groups.map(({ name }) => ({
    name,
    users: members.filter((row) => row.group_name === name).map((row) => row.user_name),
  }));
}

interface GroupChange {
  readonly name: string;
  readonly add: readonly string[];
  readonly remove: readonly string[];
}

export function changeGroup(db: Database, { name, add, remove }: GroupChange): Promise<Group> {
  return inPlacement(db, async (tx) => {
    if (add.length > 0) {
      await tx
        .insertInto("user_groups")
        .values({ name })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      await tx
        .insertInto("user_group_members")
        .values(add.map((user) => ({ group_name: name, user_name: user })))
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    }
    const known = (await listGroups(tx)).find((group) => group.name === name);
    if (known === undefined) throw noGroup(name);
    const missing = remove.filter((user) => !known.users.includes(user));
    if (missing.length > 0)
      throw new FarpoolError("FARPOOL_NOT_FOUND", `not in the group '${name}': ${missing.join(", ")}`, {
        hint: "'farpool admin groups' lists groups and their users",
      });
    if (remove.length > 0) {
      await tx
        .deleteFrom("user_group_members")
        .where("group_name", "=", name)
        .where("user_name", "in", [...remove])
        .execute();
    }
    const changes = [...add.map((user) => `+ ${user}`), ...remove.map((user) => `- ${user}`)].join(", ");
    const reason = `group ${name}: ${changes}, by an administrator`;
    await recordAudit(tx, { kind: "policy-changed", clientKey: null, reason });
    return { name, users: known.users.filter((user) => !remove.includes(user)) };
  });
}

/** A policy for it goes with it: another group of this name would inherit it. */
export function removeGroup(db: Database, name: string): Promise<void> {
  return inPlacement(db, async (tx) => {
    const gone = await tx
      .deleteFrom("user_groups")
      .where("name", "=", name)
      .returning("name")
      .executeTakeFirst();
    if (gone === undefined) throw noGroup(name);
    await tx
      .deleteFrom("policies")
      .where("scope_kind", "=", "group")
      .where("scope_name", "=", name)
      .execute();
    const reason = `group ${name}: removed, by an administrator`;
    await recordAudit(tx, { kind: "policy-changed", clientKey: null, reason });
  });
}

function noGroup(name: string): FarpoolError {
  return new FarpoolError("FARPOOL_NOT_FOUND", `there is no group '${name}'`, {
    hint: "'farpool admin groups' lists them",
  });
}
