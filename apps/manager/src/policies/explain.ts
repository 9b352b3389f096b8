import type { PolicyExplanation, policySubjectSchema } from "@farpool/contract";
import { explain, resolvePolicies } from "@farpool/policies";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import { readClientNames, readPoliciesOf } from "./store.ts";
import { readGroupsOf } from "./subject.ts";

/** Every field as it would hold for a session of this user, client and project, and where it comes from. */
export async function explainPolicy(
  db: Database,
  { user, client, project }: z.output<typeof policySubjectSchema>,
): Promise<PolicyExplanation> {
  const subject = {
    user: user ?? null,
    client: client ?? null,
    project: project ?? null,
    groups: user === undefined ? [] : await readGroupsOf(db, user),
  };
  const names = await readClientNames(db, subject.client);
  const policy = resolvePolicies(await readPoliciesOf(db, subject), subject);
  return {
    ...subject,
    source: user === undefined ? null : "reported",
    clientName: client === undefined ? null : (names.get(client) ?? null),
    fields: explain(policy, names),
  };
}
