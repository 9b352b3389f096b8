import {
  parseFilter,
  WHOLE,
  type DeviceAttributes,
  type ServiceDescription,
  type ServiceModel,
  type serviceQuestionSchema,
  type Thumbprint,
} from "@farpool/contract";
import { compareVersions, fitsEver, limitOn, type Wish } from "@farpool/domain";
import { meets } from "@farpool/policies";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import { readCapacity } from "../placement/capacity.ts";
import { readSpecification } from "./specification.ts";

/**
 * Which GPUs a client's service could get, so that it can tell programs what they will have before anything is taken.
 * It grants nothing and counts as no use.
 */
export async function describeService(
  db: Database,
  clientKey: Thumbprint,
  question: z.output<typeof serviceQuestionSchema>,
): Promise<ServiceDescription> {
  const specification = await readSpecification(db, clientKey);
  const count = question.count ?? specification?.count ?? 1;
  const size = question.size ?? specification?.size ?? WHOLE;
  const requirements = specification?.filter ?? [];
  const filters = question.filters.map(parseFilter);
  const servers = (await readCapacity(db)).filter(({ facts }) => meets(facts?.labels ?? {}, requirements));
  const models = new Map<string, ServiceModel>();
  for (const server of servers) {
    for (const gpu of server.gpus) {
      const key = `${gpu.name}\n${gpu.totalBytes}`;
      const limit = limitOn(gpu, size);
      if (limit === undefined) continue;
      const driverVersion = server.facts?.cudaVersion ?? "";
      const known = models.get(key);
      models.set(key, {
        name: gpu.name,
        memoryTotalBytes: gpu.totalBytes,
        memoryBytes: limit ?? gpu.totalBytes,
        driverVersion: known === undefined ? driverVersion : lower(known.driverVersion, driverVersion),
        gpus: (known?.gpus ?? 0) + 1,
        attributes: [],
      });
    }
  }
  const wish = (model: ServiceModel): Wish => ({
    ...{ count, size },
    filters: [...filters, parseFilter(`gpu.name=${model.name}`), parseFilter(memoryFilter(model))],
  });
  const fitting = [...models.values()].filter((model) => fitsEver(wish(model), servers));
  const attributes = await readAttributes(
    db,
    fitting.map(({ name }) => name),
  );
  return {
    specification,
    models: fitting
      .map((model) => ({
        ...model,
        attributes: attributes.get(`${model.name}\n${model.memoryTotalBytes}`) ?? [],
      }))
      .toSorted((left, right) => right.gpus - left.gpus || left.name.localeCompare(right.name)),
  };
}

/** GPUs of one name may come in sizes; filters speak of MiB. */
const memoryFilter = ({ memoryTotalBytes }: ServiceModel): string =>
  `gpu.memory>=${Math.floor(memoryTotalBytes / 2 ** 20)}MiB`;

async function readAttributes(
  db: Database,
  names: readonly string[],
): Promise<ReadonlyMap<string, DeviceAttributes>> {
  if (names.length === 0) return new Map();
  const rows = await db
    .selectFrom("gpus")
    .distinctOn(["name", "memory_total_bytes"])
    .select(["name", "memory_total_bytes", "attributes"])
    .where("present", "=", true)
    .where("attributes", "is not", null)
    .where("name", "in", names)
    .execute();
  return new Map(rows.map((row) => [`${row.name}\n${row.memory_total_bytes}`, row.attributes ?? []]));
}

const lower = (left: string, right: string): string => (compareVersions(left, right) <= 0 ? left : right);
