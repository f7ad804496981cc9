// A request in plain language: how it was understood, and how it is refined.

import { byId, chip, el, titled } from "./element.js";

const NOTHING = { query: "", conversation: "", hard: [] };
let wish = NOTHING; // `hard`: conditions that no words stand for any more
let next = ""; // the conversation that a refinement goes on with
let told = () => {};

/** Let a person make a request and refine it; `changed` is called after each. */
export function begin(changed) {
  told = changed;
  byId("request").addEventListener("submit", (event) => {
    event.preventDefault();
    set({ ...NOTHING, query: byId("query").value.trim() });
  });
  byId("refine").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = byId("turn").value.trim();
    byId("turn").value = "";
    if (query) set({ ...wish, query, conversation: next });
  });
  byId("query").addEventListener("search", () => byId("query").value || clear());
  byId("clear").addEventListener("click", () => {
    clear();
    byId("query").focus();
  });
}

/** Ask for nothing in words any more. */
export function clear() {
  byId("query").value = "";
  if (wish !== NOTHING) set(NOTHING);
}

/** What a request for recommendations says of it. */
export function asked() {
  const { query, conversation, hard } = wish;
  const said = { filters: filters(hard), exclude: ids(hard, "unlike"), history: ids(hard, "like") };
  return query ? { ...said, query, ...(conversation && { conversation }) } : said;
}

/** Show how it was understood. */
export function show({ understood, conversation, items }) {
  next = understood ? conversation : "";
  const conditions = [...wish.hard, ...(understood ? conditionsOf(understood, items) : [])];
  byId("understood").hidden = !understood && !conditions.length;
  byId("sentence").replaceChildren(
    ...(understood ? ["Understood: ", el("q", { lang: understood.language }, understood.sentence)] : []),
  );
  byId("conditions").replaceChildren(...conditions.map((condition) =>
    chip(condition.text, condition.text, () => without(condition, conditions))));
}

function set(wanted) {
  wish = wanted;
  told();
}

/** Ask for what is left: hard conditions as filters, the rest in its own words. */
function without(condition, conditions) {
  const left = conditions.filter((other) => other !== condition);
  const query = left.flatMap(({ words }) => words ?? []).join(", ");
  byId("query").value = query;
  set({ ...NOTHING, query, hard: left.filter(({ words }) => !words) });
  byId("query").focus();
}

/** The parts of a request, each with a text for a person; soft ones keep their words. */
function conditionsOf(understood, items) {
  const title = (id) => {
    const item = items.find((other) => other.item === id);
    return item ? titled(item.text).title : "what was named";
  };
  return [
    ...understood.wanted.map((term) =>
      ({ kind: "any_of", ...term, text: `${term.attribute}: ${term.value}` })),
    ...understood.unwanted.map((term) =>
      ({ kind: "none_of", ...term, text: `not ${term.attribute}: ${term.value}` })),
    ...understood.ranges.map((range) => ({ kind: "range", ...range, text: bounds(range) })),
    ...understood.like.map((id) => ({ kind: "like", id, text: `like ${title(id)}` })),
    ...understood.unlike.map((id) => ({ kind: "unlike", id, text: `not ${title(id)}` })),
  ].map(({ words, ...hard }) => hard).concat(
    understood.leanings.map(({ words, weight }) =>
      ({ words, text: `${weight < 0 ? "less" : "rather"} ${words}` })),
    understood.meaning ? [{ words: understood.meaning, text: `“${understood.meaning}”` }] : [],
  );
}

function bounds({ attribute, low, high }) {
  if (low === high) return `${attribute} ${low}`;
  if (high === null) return `${attribute} from ${low}`;
  return low === null ? `${attribute} up to ${high}` : `${attribute} ${low} to ${high}`;
}

const ids = (hard, kind) => hard.filter((one) => one.kind === kind).map(({ id }) => id);

function filters(hard) {
  const wanted = {};
  for (const { kind, attribute, value, low, high } of hard) {
    if (!attribute) continue;
    const of = (wanted[attribute] ??= {});
    if (kind === "range") Object.assign(of, { low, high });
    else (of[kind] ??= []).push(value);
  }
  return wanted;
}
