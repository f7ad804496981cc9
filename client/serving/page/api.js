// The site's API: the key, the calls, and what goes wrong with them.

const KEPT = "tacit-key";

/** What a person should read when a call fails; `status` is 0 if nobody answered. */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

/** Take the key out of the address, where there is one, and keep it in this tab. */
export function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return;
  keepKey(given);
  history.replaceState(null, "", location.pathname);
}

export const keepKey = (key) => sessionStorage.setItem(KEPT, key);
export const dropKey = () => sessionStorage.removeItem(KEPT);
export const hasKey = () => sessionStorage.getItem(KEPT) !== null;

export const get = (path, values = {}, signal = undefined) =>
  call("GET", `${path}?${new URLSearchParams(values)}`, undefined, signal);
export const post = (path, body, signal) => call("POST", path, body, signal);
export const put = (path, body) => call("PUT", path, body);

/** Return whether the site answers at all. */
export const isThere = () => fetch("/livez").then((answer) => answer.ok, () => false);

async function call(method, path, body, signal) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEPT)}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await reach(path, { method, headers, body: JSON.stringify(body), signal });
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  throw new Problem(answer.status, said.title || answer.statusText, whole(said));
}

async function reach(path, request) {
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "This site does not answer", "Trying again by itself.");
  }
}

/** The detail of a problem and each of its errors. */
function whole({ detail = "", errors = [] }) {
  const each = errors.map((error) => `${error.place && `${error.place}: `}${error.detail}.`);
  return [detail, ...each].filter(Boolean).join(" ");
}
