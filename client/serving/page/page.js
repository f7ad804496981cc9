// The page at `/`: it asks this site's own API, shows the answer, and asks again after
// whatever a person does. It loads nothing from elsewhere and keeps nothing but the key.

import { Problem, dropKey, get, hasKey, isThere, keepKey, post, takeKey } from "./api.js";
import * as cards from "./cards.js";
import { byId, el, percent, say } from "./element.js";
import * as interests from "./interests.js";
import * as request from "./request.js";
import * as whom from "./whom.js";

const FIRST = 10, MORE = 10, MOST = 100; // items of a list
const AGAIN_MS = 3000; // between looks for a site that does not answer
const WRONG_KEY = "Take the address that tacit site serve printed last: each start makes a new key.";
const LANGUAGES = { en: "English", zh: "Chinese" };
const DONE = {
  like: "Liked.", skip: "Not for them, noted.", hide: "Hidden.", buy: "Bought, noted.", rate: "Rated.",
};
const mix = { alpha: null, diversity: 0, k: FIRST };
let answer = null, asking = null, waits = null;

begin();

function begin() {
  takeKey();
  addEventListener("hashchange", () => {
    takeKey();
    open();
  });
  byId("unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(byId("key").value.trim());
    byId("key").value = "";
    open();
  });
  byId("lock").addEventListener("click", () => {
    dropKey();
    open();
  });
  byId("more").addEventListener("click", () => {
    mix.k = Math.min(MOST, mix.k + MORE);
    refresh();
  });
  byId("loosen").addEventListener("click", request.clear);
  whom.begin(anew);
  request.begin(anew);
  beginMix();
  byId("mix").open = matchMedia("(min-width: 60rem)").matches;
  open();
}

function beginMix() {
  const asked = () => {
    showMix();
    refresh();
  };
  byId("alpha").addEventListener("input", () => {
    mix.alpha = byId("alpha").valueAsNumber;
    showMix();
  });
  byId("diversity").addEventListener("input", () => {
    mix.diversity = byId("diversity").valueAsNumber;
    showMix();
  });
  for (const id of ["alpha", "diversity"]) byId(id).addEventListener("change", asked);
  byId("own").addEventListener("click", () => {
    mix.alpha = null;
    asked();
  });
}

/** Show the key's form, or else the desk with a first list. */
function open() {
  const known = hasKey();
  document.body.classList.toggle("locked", !known);
  byId("unlock").hidden = known;
  byId("desk").hidden = byId("lock").hidden = !known;
  fault(null);
  if (known) {
    refresh();
    showModel();
  } else {
    asking?.abort();
    cards.none();
    say("model", "");
    byId("key").focus();
  }
}

/** Another person or another request: a short list again. */
function anew() {
  mix.k = FIRST;
  refresh();
}

/** Ask with everything that is set, and show what comes; `done` is said before it. */
async function refresh(done = "") {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  byId("results").setAttribute("aria-busy", "true");
  cards.waiting();
  try {
    const [said] = await Promise.all([
      post("/v1/recommendations", everything(), signal),
      interests.show(whom.userId(), signal, edited),
    ]);
    if (signal.aborted) return;
    answer = said;
    fault(null);
    show(done);
  } catch (error) {
    if (signal.aborted) return;
    if (!answer) cards.none();
    fail(error);
  } finally {
    if (!signal.aborted) byId("results").removeAttribute("aria-busy");
  }
}

function everything() {
  const whose = whom.asked(), wish = request.asked();
  const history = [...whose.history, ...wish.history];
  const exclude = [...whose.exclude, ...wish.exclude];
  return { ...whose, ...wish, ...mix, history, exclude, explain: true };
}

function show(done) {
  const { items, notes } = answer;
  const moves = cards.show(items, whom.called(), think);
  cards.legend(items);
  request.show(answer);
  showMix();
  byId("nothing").hidden = items.length > 0;
  byId("more").hidden = items.length < mix.k || mix.k >= MOST;
  const told = items.length ? notes : [];
  byId("notes").replaceChildren(...told.map((note) => el("p", { class: "quiet" }, note)));
  say("said", [done, `${items.length} for ${whom.called()}.`, moved(moves)].filter(Boolean).join(" "));
}

function moved({ came, up, down }) {
  const ways = [[came, "just in"], [up, "up"], [down, "down"]].filter(([many]) => many);
  return ways.length ? `${ways.map(([many, way]) => `${many} ${way}`).join(", ")}.` : "";
}

/** Count what a person thinks of an item, and show what it changed. */
async function think(item, kind, rating) {
  try {
    if (whom.isUser()) await post("/v1/events", event(item, kind, rating));
    else whom.visited(item, kind, rating);
  } catch (error) {
    fail(error);
    return false;
  }
  await refresh(DONE[kind]);
  return true;
}

function event({ item }, kind, rating) {
  const said = { id: crypto.randomUUID(), user: whom.userId(), kind, item, shown: answer.list };
  return rating ? { ...said, rating } : said;
}

/** An interest was pinned, muted or forgotten, or could not be. */
async function edited(done, problem) {
  if (problem) fail(problem);
  else await refresh(done);
}

function showMix() {
  const own = mix.alpha === null;
  if (own && answer) byId("alpha").value = answer.alpha;
  say("alpha-said", own ? (answer ? percent(answer.alpha) : "") : percent(mix.alpha));
  say("diversity-said", percent(mix.diversity));
  byId("own").setAttribute("aria-pressed", `${own}`);
  for (const id of ["alpha", "diversity"]) {
    byId(id).setAttribute("aria-valuetext", byId(`${id}-said`).textContent);
  }
}

async function showModel() {
  const model = await get("/v1/model").catch(() => null);
  if (!model) return;
  const { release, items, fresh, languages, epsilon, notes } = model;
  const spoken = languages.map((language) => LANGUAGES[language] ?? language).join(" or ");
  const said = [
    `Release ${release}`, `${items} items, ${fresh} of them new since training`,
    spoken && `requests in ${spoken}`,
    epsilon && `privacy spent: epsilon ${epsilon.toPrecision(3)}`,
  ];
  byId("model").replaceChildren(
    el("p", {}, said.filter(Boolean).join(" · ")), ...notes.map((note) => el("p", {}, note)),
  );
}

/** Say what is wrong and what can be done about it. */
function fail(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) {
    dropKey();
    open();
    error = new Problem(401, "This key opens nothing here", WRONG_KEY);
  }
  if (error.status === 0) wait();
  fault(error);
}

function fault(problem) {
  const again = el("button", { type: "button", click: () => refresh() }, "Try again");
  byId("fault").replaceChildren(...(problem === null ? [] : [
    el("div", { class: "panel" }, el("p", {}, el("strong", {}, `${problem.title}. `), problem.message),
      problem.status === 401 ? null : again),
  ]));
}

/** Look for a site that does not answer, and go on when it does. */
function wait() {
  document.body.dataset.link = "lost";
  waits ??= setInterval(async () => {
    if (!(await isThere())) return;
    clearInterval(waits);
    waits = null;
    delete document.body.dataset.link;
    if (hasKey()) refresh();
  }, AGAIN_MS);
}
