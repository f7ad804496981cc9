"""The item about attacks: canaries, membership inference, and seeded bugs.

What was not run is said not to have been run, with the command that runs it; there is
never a figure in its place.
"""

from collections.abc import Sequence
from dataclasses import asdict

from simulations.audit.canaries import OneRun
from simulations.audit.evidence import Empirical
from simulations.audit.finding import Finding
from simulations.audit.items.content import NOT_PRIVATE, Case, Content, Table, table
from simulations.audit.items.curves import roc_chart, score_chart
from simulations.audit.items.wording import (
    epsilon_text,
    listed,
    number,
    percent,
    plural,
)
from simulations.audit.likelihood import Rate
from simulations.audit.membership import Attack
from simulations.audit.mutants import Verdict, known_mutants

NOT_RUN = "not run for this report; run"
RUN_EMPIRICAL = "tacit audit empirical --out empirical.json"
RUN_MUTANTS = "tacit audit mutants --out mutants.json"
TRUE_CODE = "the true code"
SCORES = ("scores_in", "scores_out")


def empirical(case: Case) -> Content:
    """13: what attacks on the real training code achieved."""
    parts = [
        _canaries(case.evidence.empirical),
        _membership(case.evidence.empirical),
        _seeded_bugs(case.evidence.mutants),
    ]
    return Content(
        says=[sentence for part in parts for sentence in part.says],
        figures={name: found for part in parts for name, found in part.figures.items()},
        tables=[made for part in parts for made in part.tables],
        charts=[chart for part in parts for chart in part.charts],
    )


def bugs_finding(verdicts: Sequence[Verdict]) -> Finding:
    """Return whether every known bug was seeded and caught, and the true code clean."""
    known = {"", *(mutant.name for mutant in known_mutants())}
    tried = {verdict.name: verdict.right for verdict in verdicts}
    wrong = [name or TRUE_CODE for name, right in tried.items() if not right]
    untried = [name or TRUE_CODE for name in sorted(known - tried.keys())]
    says = f"{plural(len(tried) - 1, 'seeded bug')} caught, the true code clean"
    if wrong or untried:
        says = f"judged WRONG: {listed(wrong)}" if wrong else "none judged wrong"
        says += f"; not tried: {listed(untried)}" if untried else ""
    return Finding(
        audit="mutants",
        holds=not wrong and not untried,
        says=says,
        figures={"tried": len(verdicts), "wrong": wrong, "untried": untried},
    )


def _canaries(found: Empirical | None) -> Content:
    """Return the one-run audits."""
    if found is None:
        says = f"Canaries: {NOT_RUN} {RUN_EMPIRICAL}."
        return Content(says=[says], figures={"one_run": "not run"})
    runs = [
        {name: value for name, value in asdict(run).items() if name not in SCORES}
        for run in found.runs
    ]
    return Content(
        says=[
            "Canaries: m pseudo-users, each with a gradient direction of its own, each "
            "in the run by the auditor's coin; the real sampler, clip, noise and "
            "optimiser, nobody's data. The auditor says in for the r/2 highest scores, "
            "out for the r/2 lowest; r was fixed before the run. Bounds: S23 (arXiv "
            "2305.08846) and f-DP (arXiv 2410.22235). A ceiling is what perfect "
            "guessing would have shown: no bound can speak above it.",
            f"Run by: {found.command}",
            *_found(found, "canaries"),
        ],
        figures={"command": found.command, "one_run": runs},
        tables=[_runs_table(found.runs)],
        charts=[score_chart(run) for run in found.runs[:1]],
    )


def _found(found: Empirical, audit: str) -> list[str]:
    """Return in words what an audit found."""
    return [f"Found: {f.says}." for f in found.findings if f.audit.startswith(audit)]


def _runs_table(runs: Sequence[OneRun]) -> Table:
    """Return the one-run audits side by side: a row for each figure."""
    rows = {
        "claimed epsilon": [epsilon_text(run.claimed) for run in runs],
        "delta": [number(run.delta) for run in runs],
        "q, sigma, steps": [
            f"{number(run.q)}, {number(run.sigma)}, {run.steps}" for run in runs
        ],
        "canaries m (in the run)": [f"{r.canaries:,} ({r.included:,})" for r in runs],
        "guesses r, right v": [f"{run.guesses:,}, {run.correct:,}" for run in runs],
        "beta: chance that a bound is wrong": [number(run.beta) for run in runs],
        "epsilon at least, S23": [epsilon_text(run.s23) for run in runs],
        "epsilon at least, f-DP": [epsilon_text(run.fdp) for run in runs],
        "ceiling, S23": [epsilon_text(run.s23_ceiling) for run in runs],
        "ceiling, f-DP": [epsilon_text(run.fdp_ceiling) for run in runs],
        "p-value of the claim, S23": [number(run.p_value) for run in runs],
    }
    columns = ["figure", *(f"run {n}" for n in range(1, len(runs) + 1))]
    return table(
        "One-run audit with canaries",
        columns,
        [[name, *cells] for name, cells in rows.items()],
    )


def _membership(found: Empirical | None) -> Content:
    """Return membership inference on the private model and on its twin."""
    if found is None or found.membership is None or found.twin is None:
        says = f"Membership inference: {NOT_RUN} {RUN_EMPIRICAL}."
        return Content(says=[says], figures={"membership": "not run"})
    private, twin = found.membership, found.twin
    return Content(
        says=[
            "Membership inference (LiRA, arXiv 2112.03570): models were trained on "
            "users that coins put in; an attacker who knows a user's likes and may ask "
            "a model for scores guesses whether the user was in. The same attack on a "
            "twin without privacy shows that it can be heard.",
            *_found(found, "membership"),
        ],
        figures={"membership": asdict(private), "twin": asdict(twin)},
        tables=[_membership_table(private, twin)],
        charts=[roc_chart(private, twin)],
    )


def _membership_table(private: Attack, twin: Attack) -> Table:
    """Return what the attack found on both, a row for each figure."""
    both = (private, twin)
    rows = {
        "claimed epsilon": [
            NOT_PRIVATE if a.claimed is None else epsilon_text(a.claimed) for a in both
        ],
        "models, users": [f"{a.runs:,}, {a.users:,}" for a in both],
        "members, non-members": [f"{a.members:,}, {a.non_members:,}" for a in both],
        "AUC": [f"{a.auc:.3f}" for a in both],
        "AUC of one user: median, highest": [
            f"{a.user_auc_median:.3f}, {a.user_auc_highest:.3f}" for a in both
        ],
        "members found at 1 % false positives": [_rate(a.one_percent) for a in both],
        "members found at 0.1 % false positives": [
            _rate(a.tenth_percent) for a in both
        ],
        "epsilon at least": [epsilon_text(a.epsilon_bound) for a in both],
        "mu at least": [number(a.mu_bound) for a in both],
    }
    return table(
        "Membership inference",
        ["figure", "private", "twin without privacy"],
        [[name, *cells] for name, cells in rows.items()],
    )


def _rate(rate: Rate | None) -> str:
    """Return a rate with its 95 % limits."""
    if rate is None:
        return "too few non-members"
    limits = f"{percent(rate['low'])}, {percent(rate['high'])}"
    return f"{percent(rate['tpr'])} [{limits}]"


def _seeded_bugs(verdicts: Sequence[Verdict]) -> Content:
    """Return which audit caught which seeded bug."""
    if not verdicts:
        says = f"Seeded bugs: {NOT_RUN} {RUN_MUTANTS}."
        return Content(says=[says], figures={"mutants": "not run"})
    rows = [
        [
            verdict.name or TRUE_CODE,
            ", ".join(verdict.caught_by) or "nothing found",
            str(verdict.checked),
            "right" if verdict.right else "WRONG",
        ]
        for verdict in sorted(verdicts, key=lambda one: (one.right, one.name))
    ]
    return Content(
        says=[f"Seeded bugs: {bugs_finding(verdicts).says}."],
        figures={"mutants": [asdict(verdict) for verdict in verdicts]},
        tables=[
            table("Seeded bugs", ["bug", "caught by", "checks", "judged"], rows),
        ],
    )
