// A search box with a list to choose from, by the ARIA pattern for a combobox.

import { el } from "./element.js";

const PAUSE_MS = 150;

/**
 * Let `input` choose from `list`.
 *
 * `find(words)` promises the options, each with a `value`, a `name` and perhaps `more`;
 * `pick(option)` is told which was chosen, or the words alone if `free` is true.
 */
export function choose(input, list, { find, pick, free = false }) {
  let options = [], active = -1, asked = 0, timer;

  async function look() {
    const turn = ++asked;
    const found = await find(input.value.trim());
    if (turn === asked && document.activeElement === input) show(found);
  }

  function show(found) {
    [options, active] = [found, -1];
    list.replaceChildren(...found.map((option, n) =>
      el("li", { role: "option", id: `${list.id}-${n}`, "aria-selected": "false",
        click: () => take(option) },
      el("span", {}, option.name), option.more ? el("small", {}, option.more) : null)));
    open(found.length > 0);
  }

  function open(yes) {
    list.hidden = !yes;
    input.setAttribute("aria-expanded", `${yes}`);
    if (!yes) input.removeAttribute("aria-activedescendant");
  }

  function move(to) {
    if (list.hidden || !options.length) return;
    active = (to + options.length) % options.length;
    [...list.children].forEach((node, n) => node.setAttribute("aria-selected", `${n === active}`));
    input.setAttribute("aria-activedescendant", `${list.id}-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  }

  function take(option) {
    close();
    pick(option);
  }

  function close() {
    clearTimeout(timer);
    asked += 1;
    open(false);
  }

  function enter() {
    const words = input.value.trim();
    if (!list.hidden && active >= 0) take(options[active]);
    else if (free && words) take({ value: words, name: words });
    else if (!list.hidden && options.length) take(options[0]);
  }

  const keys = {
    ArrowDown: () => (list.hidden ? look() : move(active + 1)),
    ArrowUp: () => move(active < 0 ? -1 : active - 1),
    Enter: enter,
    Escape: close,
  };
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE_MS);
  });
  input.addEventListener("click", look);
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault());
}
