import {
  errorBodySchema,
  FarpoolError,
  fillPath,
  HOLD_PATH,
  holdLineSchema,
  ROUTES,
  type HoldLine,
  type RouteInput,
  type RouteName,
  type RouteResponse,
  type RouteSpec,
  type SessionId,
} from "@farpool/contract";
import type { ManagerAddress } from "./address.ts";
import { createHttp, readBody } from "./http.ts";

const DEFAULT_TIMEOUT_MS = 10_000;

interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Parameters of any route, seen loosely: the typed signature of `call` has checked them. */
interface AnyInput {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
}

export interface ManagerClient {
  call<N extends RouteName>(name: N, input: RouteInput<N>, options?: CallOptions): Promise<RouteResponse<N>>;
  /**
   * Yields the lines of a session's hold stream; ends when the session has, throws when the stream breaks. Notices
   * come from the number `after` on, without it those that are posted from now on.
   */
  hold(sessionId: SessionId, signal: AbortSignal, after?: number): AsyncGenerator<HoldLine>;
  close(): void;
}

export function createClient(address: ManagerAddress): ManagerClient {
  const http = createHttp(address);

  async function call<N extends RouteName>(
    name: N,
    input: RouteInput<N>,
    options: CallOptions = {},
  ): Promise<RouteResponse<N>> {
    const route: RouteSpec = ROUTES[name];
    const { params, query, body } = input as AnyInput;
    const answer = await http.send({
      method: route.method,
      path: fillPath(route.path, params) + formatQuery(query),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      signal: options.signal,
    });
    const json = parseJson(answer.body);
    if (answer.status !== 200) throw toError(answer.status, json);
    const parsed = route.response.safeParse(json);
    if (!parsed.success) {
      throw new FarpoolError(
        "FARPOOL_UNAVAILABLE",
        `the manager's answer to '${name}' is not understood: ${parsed.error.issues[0]?.message}`,
        {
          hint: "manager and client may be of different versions: compare 'farpool --version' on both machines",
        },
      );
    }
    // `route.response` is the schema of N, which the index into ROUTES forgets.
    return parsed.data as RouteResponse<N>;
  }

  async function* hold(sessionId: SessionId, signal: AbortSignal, after?: number): AsyncGenerator<HoldLine> {
    const incoming = await http.stream(fillPath(HOLD_PATH, { sessionId }) + formatQuery({ after }), signal);
    if (incoming.statusCode !== 200)
      throw toError(incoming.statusCode ?? 0, parseJson(await readBody(incoming)));
    let rest = "";
    for await (const chunk of incoming) {
      const lines = (rest + String(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") continue;
        const state = holdLineSchema.parse(JSON.parse(line));
        yield state;
        if (state.state === "ended") return;
      }
    }
    throw new FarpoolError("FARPOOL_UNAVAILABLE", "the connection that holds the session broke");
  }

  return { call, hold, close: () => http.close() };
}

function formatQuery(query: AnyInput["query"]): string {
  const text = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {}))
    if (value !== undefined) text.set(key, String(value));
  return text.size === 0 ? "" : `?${text.toString()}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function toError(status: number, json: unknown): FarpoolError {
  const parsed = errorBodySchema.safeParse(json);
  if (!parsed.success)
    return new FarpoolError("FARPOOL_UNAVAILABLE", `the manager answered with HTTP status ${status}`);
  const { code, message, hint } = parsed.data.error;
  return new FarpoolError(code, message, { hint });
}
