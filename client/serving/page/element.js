// Elements that hold text alone: whatever arrives is shown, and nothing of it is run.

export const byId = (id) => document.getElementById(id);

/** Make an element; strings inside become text, functions listen, null is left out. */
export function el(name, attributes = {}, ...inside) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null) node.setAttribute(key, value);
  }
  node.append(...inside.filter((part) => part !== null));
  return node;
}

/** Set the text of an element, only if it is another one: live regions speak once. */
export function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

/** Split what the encoder reads of an item into its title and the rest. */
export function titled(text) {
  const found = text.match(TITLE);
  return found ? { title: found[1], rest: found[2] } : { title: text.replace(/[.。]$/u, ""), rest: "" };
}

// The first sentence; a full stop after an initial or one of these words ends none.
const TITLE =
  /^(.{2,140}?)(?<!\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|Sgt|Capt|Col|Gen|Lt|St|Mt|Ft|Co|Inc|Ltd|Jr|Sr|vs|Vol|No|Pt))(?:\.\s+|。\s*)(.+)$/su;

/** A thing that can be taken away again. */
export function chip(words, what, remove) {
  const button = el(
    "button", { type: "button", "aria-label": `Remove ${what}`, click: remove }, "×",
  );
  return el("li", {}, el("span", {}, words), button);
}

export const percent = (share) => `${Math.round(share * 100)} %`;
