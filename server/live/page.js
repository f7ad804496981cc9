// The operator's page: the view of server/view.py as tables and two plots.

import {
  age, badge, byId, bytes, connect, duration, faults, figure, figures, fill, listed,
  plot, sum, text,
} from "/live.js";

const STATES = {
  running: ["busy", "running"],
  silent: ["warn", "silent for longer than a round may take"],
  stopped: ["warn", "stopped by the operator"],
  completed: ["done", "completed"],
};
const NODES = { online: "good", unregistered: "warn" };
const DOING = {
  training: "busy", answered: "done", refused: "bad", absent: "warn",
};

connect(show);

function show(view) {
  faults([...(view.reachable ? [] : ["The SuperLink does not answer."]), ...view.faults]);
  showRun(view);
  const rounds = view.run ? view.run.rounds : [];
  const names = rounds.map((round) => `round ${round.number}`);
  plot("norms", rounds.map((round) => round.update_norm), {
    label: "Length of each step of the adapter", names,
  });
  plot("traffic", rounds.map(up), {
    kind: "bars", label: "Bytes of updates in each round", show: bytes, names,
  });
  fill("sites", view.sites, siteCells, "No site is admitted yet.");
  fill("rounds", [...rounds].reverse(), roundCells, "No round is finished yet.");
  const refusals = view.run ? Object.entries(view.run.refusals) : [];
  fill("refusals", refusals, ([why, times]) => [why, `${times}`], "Every answer counted.");
  fill("releases", view.releases, releaseCells, "Nothing is published yet.");
  const [newest] = view.releases;
  text("statement", newest ? `${newest.name}: ${newest.statement}` : "");
}

function showRun(view) {
  const run = view.run;
  const online = view.sites.filter((site) => site.status === "online").length;
  const current = view.releases.find((release) => release.in_force);
  const done = run && run.rounds.length ? run.rounds.at(-1).number : 0;
  text("run", run ? `Run ${run.name}` : "Run");
  text("round", run ? `Round ${run.number} of ${run.of}` : "No run yet");
  byId("state").replaceChildren(
    run ? badge(...(STATES[run.state] || ["bad", `failed: ${run.reason}`])) : "",
  );
  byId("progress").max = run ? run.of : 1;
  byId("progress").value = done;
  figures("figures", [
    ["Sites online", view.reachable ? `${online} of ${view.sites.length}` : "unknown"],
    ["Rounds done", `${done}`],
    ["Time left", run && run.state === "running" ? duration(run.left_s) : "–"],
    ["Updates received", bytes(run ? run.bytes_up : 0)],
    ["Instructions sent", bytes(run ? run.bytes_down : 0)],
    ["Release in force", current ? current.name : "none"],
  ]);
  const state = run && (run.state === "failed" ? `failed, ${run.reason}` : run.state);
  text("said", run ? `Run ${run.name}, round ${run.number} of ${run.of}, ${state}` : "");
}

const up = (round) => sum(Object.values(round.bytes_up));

function siteCells(site) {
  const now = site.why ? `${site.doing}: ${site.why}` : site.doing;
  const metrics = Object.entries(site.metrics).map(([k, v]) => [k, figure(v)]);
  return [
    site.name, badge(NODES[site.status] || "", site.status), age(site.last_seen),
    badge(DOING[site.doing] || "", now), `${site.rounds}`, bytes(site.bytes_up),
    listed(Object.fromEntries(metrics)),
  ];
}

function roundCells(round) {
  const refused = Object.entries(round.refused).map(([site, why]) => [`${site}:`, why]);
  return [
    `${round.number}`, age(round.time), duration(round.seconds), figure(round.update_norm),
    round.sites_ok.join(", ") || "–", listed(Object.fromEntries(refused)),
    listed(round.outliers), bytes(up(round)), bytes(round.bytes_down),
  ];
}

function releaseCells(release) {
  return [
    release.name, release.in_force ? badge("good", "in force") : "kept",
    age(release.time), release.sites.join(", "),
    release.epsilon === null ? badge("bad", "NOT PRIVATE") : figure(release.epsilon, 4),
  ];
}
