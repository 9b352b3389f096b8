import {
  clientSpecificationSchema,
  FarpoolError,
  formatRequest,
  type ClientSpecification,
  type Thumbprint,
} from "@farpool/contract";
import { inPlacement, now, type Database } from "../database/connect.ts";
import { recordAudit } from "../identity/audit.ts";

/** What an administrator lets the service of a client have; null: nobody has said. */
export async function readSpecification(
  db: Database,
  clientKey: Thumbprint,
): Promise<ClientSpecification | null> {
  const row = await db
    .selectFrom("client_specifications")
    .select("specification")
    .where("client_key", "=", clientKey)
    .executeTakeFirst();
  return row === undefined ? null : clientSpecificationSchema.parse(row.specification);
}

export function specifyClient(
  db: Database,
  clientKey: Thumbprint,
  specification: ClientSpecification | null,
): Promise<ClientSpecification | null> {
  return inPlacement(db, async (tx) => {
    const known = await tx
      .selectFrom("clients")
      .select("name")
      .where("thumbprint", "=", clientKey)
      .executeTakeFirst();
    if (known === undefined)
      throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no client with the key ${clientKey}`, {
        hint: "'farpool admin clients list' lists them",
      });
    if (specification === null) {
      await tx.deleteFrom("client_specifications").where("client_key", "=", clientKey).execute();
    } else {
      const values = { specification: JSON.stringify(specification), updated_at: now() };
      await tx
        .insertInto("client_specifications")
        .values({ client_key: clientKey, ...values })
        .onConflict((conflict) => conflict.column("client_key").doUpdateSet(values))
        .execute();
    }
    const what = specification === null ? "removed" : formatRequest(specification.count, specification.size);
    await recordAudit(tx, {
      kind: "policy-changed",
      clientKey,
      reason: `service specification of ${known.name}: ${what}, by an administrator`,
    });
    return specification;
  });
}
