// The ranked cards: what an item is, why it is there, what moved, what a person thinks.

import { byId, el, titled } from "./element.js";

export const PARTS = {
  text: ["texts", "what the history's texts are alike to"],
  query: ["request", "what the request asks for"],
  cf: ["shared taste", "what goes together with the history"],
  prior: ["popularity", "the popularity that was released under privacy"],
  interests: ["interests", "what was pinned, muted or declared"],
  rules: ["rules", "the site's own rules"],
};
const FEEDBACK = [
  ["like", "Like", "♥"], ["skip", "Not for me", ""], ["buy", "Bought", ""], ["hide", "Hide", ""],
];
const STARS = [1, 2, 3, 4, 5];
const SMALLEST = 0.005; // a part below it is not told
const CHIPS = 6; // values of attributes on one card
const shown = new Map(); // item -> its card
let before = []; // the items of the list before this one
let key = ""; // for whom that was: another one's list has not moved

/**
 * Show a list; return how many came, rose and fell against the one before it.
 *
 * `think(item, kind, rating)` is called for feedback on an item.
 */
export function show(items, whose, think) {
  const list = byId("cards");
  const was = new Map([...list.children].map((card) => [card, card.getBoundingClientRect().top]));
  const focused = document.activeElement;
  const row = [...list.children].findIndex((card) => card.contains(focused));
  const moves = whose === key ? movesOf(items) : new Map();
  const scale = scaleOf(items);
  const cards = items.map((item, n) => {
    const card = cardOf(item, think);
    fill(card, item, n, moves.get(item.item), scale);
    return card;
  });
  list.replaceChildren(...cards);
  refocus(focused, row, cards);
  glide(was, cards);
  [before, key] = [items.map(({ item }) => item), whose];
  for (const [item, card] of shown) if (!card.isConnected) shown.delete(item);
  return count(moves);
}

/** Say which parts the scores of a list have. */
export function legend(items) {
  const used = Object.keys(PARTS).filter((part) =>
    items.some(({ parts }) => Math.abs(parts[part]) >= SMALLEST));
  byId("legend").replaceChildren(...used.map((part) =>
    el("li", { class: part, title: PARTS[part][1] }, PARTS[part][0])));
}

/** Three empty cards, until the first list is there. */
export function waiting() {
  if (byId("cards").children.length) return;
  const blank = () => el("li", { class: "card blank", "aria-hidden": "true" },
    el("b"), el("i"), el("i"), el("i"));
  byId("cards").replaceChildren(blank(), blank(), blank());
}

/** Forget what was shown. */
export function none() {
  [before, key] = [[], ""];
  byId("cards").replaceChildren();
}

function cardOf(item, think) {
  if (!shown.has(item.item)) shown.set(item.item, blueprint(item, think));
  return shown.get(item.item);
}

function blueprint(item, think) {
  const { title, rest: all } = titled(item.text);
  const values = Object.values(item.attributes).flat();
  const rest = untagged(all, values);
  const more = values.length - CHIPS;
  return el("li", { class: "card", tabindex: "-1" },
    el("div", { class: "top" }, el("span", { class: "rank" }), el("h3", {}, title),
      el("span", { class: "marks" })),
    values.length ? el("ul", { class: "tags", "aria-label": "Attributes" },
      ...values.slice(0, CHIPS).map((value) => el("li", {}, value)),
      more > 0 ? el("li", { class: "quiet" }, `and ${more} more`) : null) : null,
    rest ? el("p", { class: "rest" }, rest) : null,
    el("p", { class: "why" }),
    el("details", {}, el("summary"), el("div", { class: "split" })),
    feedback(item, title, think));
}

/** What a text says beside the values that are shown already. */
function untagged(rest, values) {
  const [first] = rest.split(/\.\s+/u, 1);
  const known = first.split(/[,|;]\s*/u).every((word) => values.includes(word.replace(/\.$/, "")));
  return known ? rest.slice(first.length).replace(/^\.\s+/u, "") : rest;
}

function feedback(item, title, think) {
  const send = (kind, rating) => async (event) => {
    const { currentTarget: button } = event, buttons = button.closest(".feedback");
    buttons.setAttribute("aria-busy", "true");
    button.setAttribute("aria-pressed", "true");
    const counted = await think(item, kind, rating);
    buttons.removeAttribute("aria-busy");
    if (!counted) button.removeAttribute("aria-pressed");
  };
  const named = (words) => ({ type: "button", "aria-label": `${words}: ${title}` });
  return el("div", { class: "feedback" },
    ...FEEDBACK.map(([kind, words, mark]) =>
      el("button", { ...named(words), "data-kind": kind, click: send(kind) },
        mark ? el("span", { "aria-hidden": "true" }, `${mark} `) : null, words)),
    el("div", { class: "stars", role: "group", "aria-label": `Rate ${title}` },
      ...STARS.map((rating) =>
        el("button", { ...named(`${rating} of 5`), "data-kind": "rate", click: send("rate", rating) }, "★"))));
}

function fill(card, item, n, move, scale) {
  const at = (selector) => card.querySelector(selector);
  at(".rank").textContent = `${n + 1}`;
  at(".marks").replaceChildren(...marks(item, move));
  at(".why").textContent = item.reason?.sentence ?? "";
  at(".why").hidden = !item.reason?.sentence;
  at("summary").replaceChildren(bar(item, scale), el("span", { class: "total" }, signed(item.score, "")));
  at(".split").replaceChildren(...split(item));
  for (const button of card.querySelectorAll("[aria-pressed]")) button.removeAttribute("aria-pressed");
}

function marks(item, move) {
  const mark = (kind, seen, words) => el("span", { class: `mark ${kind}`, title: words },
    el("span", { "aria-hidden": "true" }, seen), el("span", { class: "spoken" }, words));
  const moved = {
    up: () => mark("up", `▲ ${move.by}`, `up ${move.by}`),
    down: () => mark("down", `▼ ${move.by}`, `down ${move.by}`),
    came: () => mark("came", "+ just in", "was not in the last list"),
    stayed: () => null,
  };
  const fresh = item.explored
    ? mark("fresh", "new", "new: it has a place that is kept for new items") : null;
  return [fresh, move ? moved[move.way]() : null].filter(Boolean);
}

function movesOf(items) {
  return new Map(items.map(({ item }, n) => {
    const by = before.indexOf(item) - n;
    if (by <= -1 - n) return [item, { way: "came" }];
    return [item, { way: by > 0 ? "up" : by < 0 ? "down" : "stayed", by: Math.abs(by) }];
  }));
}

function count(moves) {
  const ways = { came: 0, up: 0, down: 0, stayed: 0 };
  for (const { way } of moves.values()) ways[way] += 1;
  return ways;
}

/** How far the bars of a list go to both sides of nothing. */
function scaleOf(items) {
  const side = (sign) => Math.max(0, ...items.map(({ parts }) =>
    Object.values(parts).reduce((sum, part) => sum + Math.max(0, sign * part), 0)));
  const [above, below] = [side(1), side(-1)];
  return { zero: below / (above + below || 1), whole: above + below || 1 };
}

function bar({ parts }, { zero, whole }) {
  const said = Object.entries(parts).filter(([, part]) => Math.abs(part) >= SMALLEST);
  const words = said.map(([name, part]) => `${PARTS[name][0]} ${signed(part)}`).join(", ");
  let [above, below] = [zero, zero];
  const pieces = said.map(([name, part]) => {
    const width = Math.abs(part) / whole;
    const piece = el("span", { class: part < 0 ? `${name} less` : name });
    if (part < 0) below -= width;
    piece.style.insetInlineStart = `${100 * (part < 0 ? below : above)}%`;
    piece.style.inlineSize = `${100 * width}%`;
    if (part > 0) above += width;
    return piece;
  });
  const naught = el("span", { class: "naught", hidden: zero ? null : "" });
  naught.style.insetInlineStart = `${100 * zero}%`;
  return el("span", { class: "bar", role: "img", "aria-label": `Score: ${words}` }, ...pieces, naught);
}

/** The numbers, on demand: each part, and what each cause is worth. */
function split({ parts, score, reason }) {
  const row = (name, number, kind) =>
    el("tr", {}, el("th", { scope: "row", class: kind }, name), el("td", {}, signed(number)));
  const causes = reason?.causes ?? [];
  return [
    el("table", {}, el("caption", {}, "The score is this sum"), el("tbody", {},
      ...Object.entries(PARTS).map(([part, [name]]) => row(name, parts[part], part)),
      row("in all", score, "all"))),
    causes.length ? el("table", {}, el("caption", {}, "Without this alone it would lose"),
      el("tbody", {}, ...causes.map(({ text, amount }) => row(text, amount, "cause")))) : "",
  ];
}

function signed(number, plus = "+") {
  const said = Math.abs(number).toFixed(2);
  if (said === "0.00") return said;
  return `${number < 0 ? "−" : plus}${said}`;
}

/** Keep the keyboard where it was, or at the card that took the place. */
function refocus(focused, row, cards) {
  if (row < 0 || !cards.length) return;
  const there = focused.isConnected ? focused : cards[Math.min(row, cards.length - 1)];
  there.focus({ preventScroll: true });
}

/** Let the cards be seen to move, where motion is wanted. */
function glide(was, cards) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !was.size) return;
  const timing = { duration: 260, easing: "cubic-bezier(.2, .7, .2, 1)" };
  for (const card of cards) {
    const by = was.has(card) ? was.get(card) - card.getBoundingClientRect().top : null;
    if (by === null) card.animate([{ opacity: 0 }, { opacity: 1 }], timing);
    else if (by) card.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], timing);
  }
}
