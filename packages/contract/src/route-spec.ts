import type * as z from "zod";

/** One request of the API: the manager serves it, `client-api` sends it, OpenAPI documents it. */
export interface RouteSpec {
  readonly method: "GET" | "POST";
  readonly path: `/${string}`;
  readonly summary: string;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodObject;
  readonly response: z.ZodObject;
}
