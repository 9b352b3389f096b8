import * as z from "zod";
import { filterTextSchema } from "./filters.ts";
import { clientSpecificationSchema } from "./policies.ts";
import { deviceAttributesSchema } from "./servers.ts";
import { sizeSchema } from "./sizes.ts";

/** What a client's service would ask for; what is null the manager's specification says. */
export const serviceQuestionSchema = z.object({
  count: z.int().min(1).max(100_000).nullable().default(null),
  size: sizeSchema.nullable().default(null),
  filters: z.array(filterTextSchema).max(32).default([]),
});

/** A model of GPU that its sessions could have. */
export const serviceModelSchema = z.object({
  name: z.string(),
  memoryTotalBytes: z.int(),
  /** Of a GPU of the session. */
  memoryBytes: z.int(),
  /** The lowest that a server with such GPUs has, as CUDA writes it: 13.0. */
  driverVersion: z.string(),
  /** How many the pool has. */
  gpus: z.int(),
  attributes: deviceAttributesSchema,
});
export type ServiceModel = z.output<typeof serviceModelSchema>;

export const serviceDescriptionSchema = z.object({
  /** Null: nobody has said, and policies alone bound it. */
  specification: clientSpecificationSchema.nullable(),
  /** Those that its session could have now or some day, the most frequent first. */
  models: z.array(serviceModelSchema),
});
export type ServiceDescription = z.output<typeof serviceDescriptionSchema>;
