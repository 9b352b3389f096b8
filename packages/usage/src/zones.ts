/** Days and months of a time zone: a day may have 23 or 25 hours, and its first moment need not be midnight. */

interface LocalTime {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  /** What a clock on the wall shows, as if it were UTC. */
  readonly wallMs: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known !== undefined) return known;
  const made = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  formats.set(zone, made);
  return made;
}

/** Whether the zone is one of the IANA data base, or UTC. */
export function isTimeZone(zone: string): boolean {
  try {
    formatOf(zone);
    return true;
  } catch {
    return false;
  }
}

function localTime(atMs: number, zone: string): LocalTime {
  const parts = new Map(
    formatOf(zone)
      .formatToParts(atMs)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const part = (name: Intl.DateTimeFormatPartTypes): number => parts.get(name) ?? 0;
  const [year, month, day] = [part("year"), part("month"), part("day")];
  const milliseconds = ((atMs % 1_000) + 1_000) % 1_000;
  const wallMs = Date.UTC(year, month - 1, day, part("hour"), part("minute"), part("second")) + milliseconds;
  return { year, month, day, wallMs };
}

const isoDay = (year: number, month: number, day: number): string =>
  new Date(Date.UTC(year, month - 1, day)).toISOString().slice(0, 10);

/** `2026-03-29`: the day that it is in the zone. */
export function dayOf(atMs: number, zone: string): string {
  const { year, month, day } = localTime(atMs, zone);
  return isoDay(year, month, day);
}

/** `2026-03`. */
export function monthOf(atMs: number, zone: string): string {
  return dayOf(atMs, zone).slice(0, 7);
}

/** The first moment of a day, `2026-03-29`, in the zone. */
export function startOfDay(day: string, zone: string): number {
  const wallMs = Date.parse(`${day}T00:00:00Z`);
  // A zone's offsets around a change differ, so both are tried; the earlier moment that is not before the day is it.
  const candidates = [-86_400_000, 0, 86_400_000].map((aside) => {
    const near = wallMs + aside;
    return wallMs - (localTime(near, zone).wallMs - near);
  });
  const first = candidates
    .toSorted((a, b) => a - b)
    .find((at) => dayOf(at, zone) === day && dayOf(at - 1, zone) < day);
  if (first !== undefined) return first;
  // Midnight is skipped in this zone on this day: the change itself is the first moment.
  let [before, after] = [Math.min(...candidates) - 3 * 3_600_000, Math.max(...candidates) + 3 * 3_600_000];
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2);
    if (dayOf(middle, zone) < day) before = middle;
    else after = middle;
  }
  return after;
}

/** The first moment of the next day in the zone. */
export function nextDay(atMs: number, zone: string): number {
  const { year, month, day } = localTime(atMs, zone);
  return startOfDay(isoDay(year, month, day + 1), zone);
}

/** The first moment of the month in which this is. */
export function startOfMonth(atMs: number, zone: string): number {
  return startOfDay(`${monthOf(atMs, zone)}-01`, zone);
}

/** The first moment of the month after the one in which this is. */
export function nextMonth(atMs: number, zone: string): number {
  const { year, month } = localTime(atMs, zone);
  return startOfDay(isoDay(year, month + 1, 1), zone);
}
