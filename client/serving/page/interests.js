// What a user is interested in, and their own say in it: pin, mute, forget.

import { get, put } from "./api.js";
import { byId, el, percent } from "./element.js";

const EDITS = [["pinned", "Pin"], ["muted", "Mute"], ["forgotten", "Forget"]];
const FEW = 8; // shown until more are asked for
const STEADY = 0.01; // a smaller change of weight is no drift

let whole = false; // whether all are shown

const path = (user) => `/v1/users/${encodeURIComponent(user)}/interests`;

/** Show the interests of a user, none for a visitor; `edited(words)` follows an edit. */
export async function show(user, signal, edited) {
  byId("interests").hidden = !user;
  const found = user ? await of(user, signal) : [];
  if (signal.aborted) return;
  const widest = Math.max(...found.map(({ weight }) => weight), 0.01);
  const edit = async (interest, state, words) => {
    try {
      await put(path(user), [{ interest: interest.key, state }]);
      await edited(`${words} ${interest.name}.`);
    } catch (problem) {
      await edited("", problem);
    }
  };
  const told = found.filter(({ state }, n) => n < FEW || state !== "none");
  const draw = (interests) => refill(interests.map((interest) => rowOf(interest, widest, edit)));
  const all = byId("all-interests");
  const open = () => {
    [whole, all.hidden] = [true, true];
    draw(found);
    byId("interest-list").querySelectorAll("li")[told.length].querySelector("button").focus();
  };
  draw(whole ? found : told);
  all.hidden = whole || told.length === found.length;
  all.textContent = `Show all ${found.length}`;
  all.onclick = open;
}

/** The interests of a user; of one that the site has not met, none. */
async function of(user, signal) {
  try {
    return (await get(path(user), {}, signal)).interests;
  } catch (problem) {
    if (problem.status === 404) return [];
    throw problem;
  }
}

function refill(rows) {
  const list = byId("interest-list"), focused = document.activeElement?.id;
  const nothing = el("li", { class: "quiet" }, "Nothing yet. What is liked shows here.");
  const inside = list.contains(document.activeElement);
  list.replaceChildren(...(rows.length ? rows : [nothing]));
  if (inside) (document.getElementById(focused) ?? byId("interests")).focus({ preventScroll: true });
}

function rowOf(interest, widest, edit) {
  const { key, name, kind, weight, before, state } = interest;
  const bar = el("span", { class: "weight", "aria-hidden": "true" }, el("span"));
  bar.firstChild.style.inlineSize = percent(weight / widest).replace(" ", "");
  return el("li", { class: state },
    el("div", { class: "ends" },
      el("span", { class: "interest" }, name, " ", el("small", {}, kindOf(kind, key))),
      drift(weight, before)),
    bar,
    el("div", { class: "edits" }, ...EDITS.map(([value, words]) =>
      el("button", {
        type: "button", id: `${value}-${encodeURIComponent(key)}`,
        "aria-label": `${words} ${name}, ${kindOf(kind, key)}`,
        "aria-pressed": `${state === value}`,
        click: () => edit(interest, state === value ? "none" : value,
          state === value ? `Not ${value} any more:` : `${value[0].toUpperCase()}${value.slice(1)}:`),
      }, words))));
}

const kindOf = (kind, key) => (kind === "topic" ? "topic" : key.split(":")[1]);

function drift(weight, before) {
  const by = weight - before;
  const way = by > STEADY ? ["▲", "rising"] : by < -STEADY ? ["▼", "falling"] : ["", "steady"];
  return el("span", { class: `drift ${way[1]}`, title: `${way[1]}: ${percent(before)} before` },
    `${percent(weight)} `, el("span", { "aria-hidden": "true" }, way[0]),
    el("span", { class: "spoken" }, way[1]));
}
