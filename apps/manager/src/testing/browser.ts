interface Sent {
  readonly method?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** As much of a browser as signing in takes: cookies, redirects, and forms that are filled in and sent. */
export async function signInWithBrowser(
  start: string,
  answers: Readonly<Record<string, string>>,
): Promise<string> {
  const cookies = new Map<string, string>();

  async function open(address: string, init: Sent = {}): Promise<{ address: string; page: string }> {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(address, {
      ...init,
      redirect: "manual",
      headers: { ...init.headers, cookie },
    });
    for (const line of answer.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (value === "") cookies.delete(name);
      else cookies.set(name, value);
    }
    const next = answer.headers.get("location");
    if (next !== null) return open(new URL(next, address).href);
    return { address, page: await answer.text() };
  }

  let at = await open(start);
  for (let step = 0; step < 8; step += 1) {
    const form = /<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/.exec(at.page);
    if (form === null) return at.page;
    const [, action = "", content = ""] = form;
    const fields = new URLSearchParams();
    for (const [tag] of content.matchAll(/<(?:input|button)[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(tag)?.[1];
      if (name === undefined || name === "abort") continue;
      fields.set(name, answers[name] ?? /value="([^"]*)"/.exec(tag)?.[1] ?? "");
    }
    at = await open(new URL(action, at.address).href, {
      method: "POST",
      body: fields.toString(),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  }
  return at.page;
}
