import type { Schema } from "./schema.ts";
export function checkToolkit(_schema: Schema, _toolkit: string | undefined): readonly string[] {
  return [];
}
