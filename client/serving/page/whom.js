// For whom: one of the site's users, or a visitor whose history is kept in this tab.

import { get } from "./api.js";
import { choose } from "./choose.js";
import { byId, chip, say, titled } from "./element.js";

const LISTED = 20;
const visitor = { liked: [], unwanted: [] };
let user = "";
let told = () => {};

/** Let a person say for whom; `changed` is called after each change. */
export function begin(changed) {
  told = changed;
  choose(byId("liked"), byId("liked-list"), { find: items, pick: like });
  choose(byId("name"), byId("name-list"), { find: users, pick: be, free: true });
  for (const radio of document.getElementsByName("whom")) {
    radio.addEventListener("change", () => turn(radio.value));
  }
}

/** What a request says of it. */
export const asked = () =>
  isUser()
    ? { user, history: [], exclude: [] }
    : { history: visitor.liked.map(({ id }) => id), exclude: visitor.unwanted };

export const userId = () => (byId("user").hidden ? "" : user);
export const isUser = () => userId() !== "";
export const called = () => (isUser() ? `user ${user}` : "a visitor");

/** Count what a visitor thinks of an item. */
export function visited(item, kind, rating) {
  const good = kind === "like" || kind === "buy" || rating >= 4;
  if (good) visitor.liked.unshift({ id: item.item, title: titled(item.text).title });
  else visitor.unwanted.push(item.item);
  showHistory();
}

function turn(kind) {
  byId("visitor").hidden = kind === "user";
  byId("user").hidden = kind !== "user";
  if (user) told();
}

function be(option) {
  user = option.value;
  byId("name").value = user;
  told();
}

function like(option) {
  byId("liked").value = "";
  if (visitor.liked.some(({ id }) => id === option.value)) return;
  visitor.liked.unshift({ id: option.value, title: option.name });
  showHistory();
  told();
}

function showHistory() {
  byId("liked").placeholder = visitor.liked.length ? "and what else?" : "nothing yet: search for items";
  byId("history").replaceChildren(...visitor.liked.map(({ id, title }) =>
    chip(title, title, () => {
      visitor.liked = visitor.liked.filter((other) => other.id !== id);
      showHistory();
      byId("liked").focus();
      told();
    })));
}

async function items(search) {
  if (!search) return [];
  const found = await get("/v1/items", { search, limit: LISTED }).catch(() => ({ items: [] }));
  return found.items.map(({ id, text }) => {
    const { title, rest } = titled(text);
    return { value: id, name: title, more: rest };
  });
}

/** The users whose id begins with the words, in the order of the ids. */
async function users(words) {
  const begins = words === user ? "" : words;
  try {
    const found = await get("/v1/users", { after: before(begins), limit: LISTED });
    const fitting = found.users.filter((id) => id.startsWith(begins));
    say("name-hint", fitting.length ? "" : "No user’s id begins so.");
    return fitting.map((id) => ({ value: id, name: id }));
  } catch (problem) {
    const why = problem.status === 403
      ? "This key may not list users: type the whole id, then Enter."
      : problem.message;
    say("name-hint", why);
    return [];
  }
}

/** The greatest text that comes before all that begin with `words`. */
function before(words) {
  if (!words) return "";
  const last = words.charCodeAt(words.length - 1);
  return `${words.slice(0, -1)}${last > 0x20 ? `${String.fromCharCode(last - 1)}\uffff` : ""}`;
}
