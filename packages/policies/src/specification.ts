import {
  FarpoolError,
  formatDuration,
  formatRequest,
  type ClientSpecification,
  type SessionPurpose,
  type Size,
} from "@farpool/contract";

interface ServiceWish {
  readonly purpose: SessionPurpose;
  readonly count: number;
  readonly size: Size;
  readonly idleTimeoutMs: number | null;
}

interface Situation {
  /** The client, for people. */
  readonly client: string;
  readonly specification: ClientSpecification | null;
  /** The session that the client's service has. */
  readonly service: string | null;
  /** Another session that the client has, no service's. */
  readonly other: string | null;
  /** Whether a size is no larger than another on every GPU of the pool. */
  readonly isWithin: (size: Size, most: Size) => boolean;
}

interface ServiceRefusal {
  readonly title: string;
  readonly asked: string;
  readonly allowed: string;
}

/** As for policies: what was asked, what is allowed, whence, and who can change it. */
export function refuseService(
  { client, isSpecified }: { readonly client: string; readonly isSpecified: boolean },
  { title, asked, allowed }: ServiceRefusal,
): FarpoolError {
  const origin = isSpecified ? "service specification" : "as nothing else is said";
  return new FarpoolError(
    "FARPOOL_POLICY",
    `policy '${title}': asked for ${asked}, allowed: ${allowed} (${origin} of client ${client})`,
    {
      hint: "an administrator of the pool can change it, with 'farpool admin clients set'; 'farpool admin clients show' prints it",
    },
  );
}

/**
 * What a client's service may have is said in the manager, so it holds for whoever has the client's key. Beside a
 * service's session there is no other one, unless an administrator allows it.
 */
export function judgeService(wish: ServiceWish, situation: Situation): void {
  const { client, specification, service, other, isWithin } = situation;
  const refuse = (title: string, asked: string, allowed: string): FarpoolError =>
    refuseService({ client, isSpecified: specification !== null }, { title, asked, allowed });
  if (wish.purpose !== "service") {
    if (specification?.serviceOnly === true)
      throw refuse(
        "service only",
        `a session that is not the client's service (${wish.purpose})`,
        "its service's",
      );
    if (service !== null && specification?.allowsOthers !== true)
      throw refuse("sessions beside the service", `a second session beside ${service}`, "none");
    return;
  }
  if (service !== null) throw refuse("sessions of the service", `a second one beside ${service}`, "1");
  if (other !== null && specification?.allowsOthers !== true)
    throw refuse("sessions beside the service", `the service's session beside ${other}`, "none");
  if (specification === null) return;
  const { count, size, idleTimeoutMs } = specification;
  if (wish.count > count) throw refuse("GPUs of the service", String(wish.count), String(count));
  if (!isWithin(wish.size, size))
    throw refuse("size of the service", formatRequest(1, wish.size), formatRequest(1, size));
  if (idleTimeoutMs !== null && wish.idleTimeoutMs !== null && wish.idleTimeoutMs > idleTimeoutMs)
    throw refuse(
      "idle timeout of the service",
      formatDuration(wish.idleTimeoutMs),
      formatDuration(idleTimeoutMs),
    );
}
