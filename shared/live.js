// What all live pages share: the stream, elements that hold text alone, figures in
// words, small plots. Whatever arrives is shown as text; nothing is ever run.

const RETRY_MS = 3000;
const SVG = "http://www.w3.org/2000/svg";
const DASH = "–";

export const byId = (id) => document.getElementById(id);

/** Call `show` with every view; say so when the connection is lost, and try again. */
export function connect(show) {
  const source = new EventSource("/v1/stream");
  let shown;
  source.addEventListener("view", (event) => {
    shown = JSON.parse(event.data);
    link("live");
    faults([]);
    show(shown);
  });
  source.addEventListener("fault", (event) => {
    link("live");
    faults([JSON.parse(event.data)]);
  });
  source.onerror = () => {
    link("lost");
    if (source.readyState === EventSource.CLOSED) {
      removeEventListener("resize", again);
      setTimeout(() => connect(show), RETRY_MS);
    }
  };
  const again = () => shown && show(shown);
  addEventListener("resize", again);
}

const LINKS = { live: "Live", lost: "Connection lost, trying again" };

function link(state) {
  document.body.dataset.link = state;
  text("link", LINKS[state]);
}

/** Show what is wrong, one paragraph each. */
export function faults(sentences) {
  const place = byId("faults");
  const wanted = sentences.join("\n");
  if (place.dataset.said === wanted) return;
  place.dataset.said = wanted;
  place.replaceChildren(...sentences.map((sentence) => el("p", {}, sentence)));
}

/** Set the text of an element, only if it is another one: live regions speak once. */
export function text(id, value) {
  const node = byId(id);
  if (node.textContent !== value) node.textContent = value;
}

/** Make an element; strings inside become text. */
export function el(name, attributes = {}, ...inside) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...inside);
  return node;
}

/** Fill a table's body; the first cell of each row is its header. */
export function fill(id, rows, cells, empty) {
  const body = byId(id).tBodies[0];
  const width = byId(id).tHead.rows[0].cells.length;
  const made = rows.map((row) => {
    const [first, ...others] = cells(row);
    const line = el("tr", {}, el("th", { scope: "row" }, first));
    line.append(...others.map((cell) => el("td", {}, cell)));
    return line;
  });
  const nothing = el("tr", {}, el("td", { colspan: width, class: "nothing" }, empty));
  body.replaceChildren(...(made.length ? made : [nothing]));
}

/** Fill a list of figures: a name and a value each. */
export function figures(id, pairs) {
  byId(id).replaceChildren(
    ...pairs.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value)),
    ),
  );
}

/** A state with a mark of its own, so that colour is never all that tells. */
export const badge = (kind, words) => el("span", { class: `badge ${kind}` }, words);

/** A moment, shown as how long ago it was. */
export function age(iso) {
  return iso ? el("time", { datetime: iso, title: iso }, ago(iso)) : DASH;
}

const ago = (iso) => `${duration((Date.now() - Date.parse(iso)) / 1000)} ago`;

setInterval(() => {
  for (const node of document.querySelectorAll("time[datetime]")) {
    const now = ago(node.dateTime);
    if (node.textContent !== now) node.textContent = now;
  }
}, 1000);

export function duration(seconds) {
  if (seconds === null) return "unknown";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.round(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
  return `${Math.round(whole / 86400)} days`;
}

export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  const units = ["kB", "MB", "GB", "TB"];
  const power = Math.min(units.length, Math.floor(Math.log10(count) / 3));
  return `${(count / 1000 ** power).toPrecision(3)} ${units[power - 1]}`;
}

export const figure = (value, digits = 3) =>
  value === null ? DASH : Number(value).toPrecision(digits);

export const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Words for names and values: "a 1, b 2". */
export const listed = (object) =>
  Object.entries(object).map(([key, value]) => `${key} ${value}`).join(", ") || DASH;

const HEIGHT = 132, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 22;

/**
 * Draw values over their labels: a line, or bars where `kind` is "bars".
 *
 * Each value has a band with a title, so that a pointer anywhere above it finds it.
 */
export function plot(id, values, { kind = "line", label, show = figure, names }) {
  const svg = byId(id);
  const width = svg.clientWidth || 600;
  const top = Math.max(...values, 0) || 1;
  const step = (width - LEFT - RIGHT) / Math.max(1, values.length);
  const x = (n) => LEFT + step * (n + 0.5);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const last = values.length ? `; last ${show(values.at(-1))}` : "";
  svg.setAttribute("aria-label", `${label}, ${values.length} values${last}`);
  const parts = [0, top].flatMap((value) => [
    shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    words(LEFT - 8, y(value) + 4, "end", values.length || !value ? show(value) : ""),
  ]);
  if (kind === "bars") {
    const wide = Math.max(1, Math.min(24, step - 2));
    parts.push(...values.map((value, n) =>
      shape("rect", {
        class: "bar", x: x(n) - wide / 2, y: y(value), width: wide,
        height: y(0) - y(value), rx: Math.min(3, wide / 2),
      })));
  } else if (values.length) {
    const points = values.map((value, n) => `${x(n)},${y(value)}`).join(" ");
    const end = values.length - 1;
    parts.push(shape("polyline", { class: "line", points }));
    parts.push(shape("circle", { class: "dot", cx: x(end), cy: y(values[end]), r: 4 }));
  }
  parts.push(...values.map((value, n) => {
    const band = shape("rect", {
      class: "band", x: x(n) - step / 2, y: TOP, width: step, height: HEIGHT - TOP - BOTTOM,
    });
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${names[n]}: ${show(value)}`;
    band.append(title);
    return band;
  }));
  if (names.length) parts.push(words(x(0), HEIGHT - 5, "middle", names[0]));
  if (names.length > 1) parts.push(words(x(names.length - 1), HEIGHT - 5, "middle", names.at(-1)));
  svg.replaceChildren(...parts);
}

function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function words(x, y, anchor, said) {
  const node = shape("text", { x, y, "text-anchor": anchor });
  node.textContent = said;
  return node;
}
