// The site's own page: the view of client/view.py, its budget burning down first.

import {
  age, badge, byId, bytes, connect, el, faults, figure, figures, fill, plot, text,
} from "/live.js";

const STATES = {
  online: "good", connecting: "busy", starting: "busy", paused: "warn", refused: "bad",
};
const OUTCOMES = { sent: "done", charged: "busy" };

connect(show);

function show(view) {
  faults(view.faults);
  text("site", view.site);
  showBudget(view);
  showBurn(view);
  fill("rounds", view.rounds, (round) => [
    `${round.number}`, round.run, age(round.time),
    badge(OUTCOMES[round.outcome] || "bad", outcome(round)),
  ], "This site has not taken part in a round.");
  text("total", `${view.releases} in all, ${bytes(view.bytes)}`);
  fill("left", view.left, (left) => [
    age(left.time), left.run, `${left.number}`, bytes(left.bytes), el("code", {}, left.sha256),
  ], "Nothing ever left.");
  const refusals = Object.entries(view.refusals);
  fill("refusals", refusals, ([why, times]) => [why, `${times}`], "Nothing was refused.");
}

const outcome = (round) => (round.outcome in OUTCOMES ? round.outcome : `refused: ${round.outcome}`);

function showBudget(view) {
  const { budget, node } = view;
  byId("state").replaceChildren(...standing(node));
  text("left-now", leftNow(budget));
  const share = budget && budget.limit && budget.left !== null ? budget.left / budget.limit : 0;
  byId("progress").value = budget && budget.exposed ? 0 : share;
  figures("figures", [
    ["Epsilon spent", budget && !budget.exposed ? figure(budget.spent) : "–"],
    ["Next round costs", budget ? figure(budget.next_cost) : "–"],
    ["Such rounds left", budget && budget.rounds_left !== null ? `${budget.rounds_left}` : "–"],
    ["Delta", budget ? `${budget.delta}` : "–"],
    ["Rounds taken part in", `${view.took_part}`],
    ["Release in force here", view.serving || "none yet"],
  ]);
  const last = view.rounds[0];
  text("said", `${last ? `Round ${last.number} of ${last.run}: ${outcome(last)}. ` : ""}Node ${node.state}`);
}

function standing(node) {
  if (node.left) return [badge("bad", "left the federation")];
  if (node.paused) {
    return [badge("warn", node.until ? `paused until ${new Date(node.until).toLocaleString()}` : "paused")];
  }
  const detail = node.detail ? `node ${node.state}: ${node.detail}` : `node ${node.state}`;
  return [badge(STATES[node.state] || "warn", detail), ...(node.since ? [" ", age(node.since)] : [])];
}

function leftNow(budget) {
  if (!budget) return "Unknown: the ledger cannot be believed";
  if (budget.exposed) return "NOT PRIVATE: something left without noise";
  if (budget.limit === null) return "No limit: nothing is promised";
  return `Epsilon ${figure(budget.left)} left of ${figure(budget.limit)}`;
}

function showBurn(view) {
  const { budget, charges } = view;
  const limited = budget && budget.limit !== null && !budget.exposed;
  const after = limited ? charges.map((charge) => Math.max(0, budget.limit - charge.epsilon)) : [];
  plot("burn", limited ? [budget.limit, ...after] : [], {
    label: "Epsilon left after each charge",
    names: limited ? ["at first", ...charges.map((_, n) => `charge ${n + 1}`)] : [],
  });
}
