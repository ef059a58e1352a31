"""What there is to be allowed, and the roles that allow it: profiles of the seven who work on a model, and the administrator."""

from __future__ import annotations

from dataclasses import dataclass

PERMISSIONS: dict[str, str] = {
    "home.see": "See how each project stands.",
    "runs.see": "See runs: steps, times, logs, parameters, metrics.",
    "runs.start": "Start a run, a schedule or a backfill, and go on with a run.",
    "runs.stop": "Stop a run or pause a schedule.",
    "data.see": "See data sets, versions, contracts, features, and what was set aside, without rows.",
    "data.rows": "See rows: samples of data and what lies in quarantine.",
    "data.fix": "Correct or let in rows from quarantine, accept a change of a contract, bring the online store up to date.",
    "models.see": "See versions of models with their evidence, cards and signatures.",
    "models.ask": "Ask for the approval of a version.",
    "models.approve": "Approve or reject a version that somebody else asked for.",
    "models.waive": "Let a version pass in spite of a gate.",
    "deployments.see": "See what answers requests, how, and how it is compared.",
    "deployments.try": "Ask an endpoint for a prediction by hand.",
    "deployments.change": "Deploy, promote, roll back, stop and go on.",
    "alarms.see": "See monitors and alarms.",
    "alarms.answer": "Acknowledge, snooze or resolve an alarm, and answer a reaction that waits.",
    "predictions.see": "See the whole story of one prediction.",
    "predictions.judge": "Say the truth of a prediction.",
    "backtest.see": "See comparisons of policies, and what they are worth.",
    "backtest.run": "Start a comparison of policies.",
    "audit.see": "See who did what, when and from where.",
    "audit.export": "Take the audit log out as a file.",
    "metrics.see": "Read the metrics of endpoints and of the console.",
    "notes.write": "Write comments, ask for changes, hand over.",
    "access.see": "See people, groups, roles, sessions and tokens.",
    "access.change": "Change people, groups, roles, sessions and tokens: whoever may do this may do everything in the end.",
    "persons.erase": "Forget a person whose data is in the project, or give them their data.",
}


@dataclass(frozen=True)
class Role:
    """A profile of permissions that people and groups hold.

    Attributes:
        sentence: what the role is about. built_in: whether it comes with Treadle. edited: whether this project changed it.
        version: of its record, 0 when there is none; for `expect`.
    """

    name: str
    title: str
    sentence: str
    permissions: frozenset[str]
    built_in: bool = False
    edited: bool = False
    version: int = 0


ADMINISTRATOR = "administrator"
_EVERYONE = "home.see runs.see data.see models.see deployments.see alarms.see backtest.see notes.write"


def _role(name: str, title: str, sentence: str, more: str) -> Role:
    return Role(name, title, sentence, frozenset(f"{_EVERYONE} {more}".split()), built_in=True)


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        _role(
            "stakeholder", "Business stakeholder or reviewer", "Sets the goal, weighs worth and risk, approves what goes into production.",
            "models.approve audit.see audit.export predictions.see",
        ),
        _role("architect", "Solution architect", "Chooses the technology, and looks after how the parts fit.", "audit.see metrics.see access.see"),
        _role(
            "data_scientist", "Data scientist", "Frames the problem, trains models and asks for their approval.",
            "runs.start runs.stop data.rows models.ask backtest.run predictions.see predictions.judge deployments.try",
        ),
        _role(
            "data_engineer", "Data engineer", "Brings data in, keeps contracts and features sound, forgets persons.",
            "runs.start runs.stop data.rows data.fix persons.erase",
        ),
        _role("software_engineer", "Software engineer", "Builds what calls the endpoint.", "deployments.try metrics.see predictions.see"),
        _role(
            "devops_engineer", "DevOps engineer", "Deploys, watches, and keeps it running.",
            "runs.start runs.stop deployments.try deployments.change alarms.answer metrics.see audit.see",
        ),
        _role(
            "ml_engineer", "ML engineer", "Runs the whole loop, from data to retraining.",
            "runs.start runs.stop data.rows data.fix models.ask models.approve models.waive deployments.try deployments.change alarms.answer "
            "predictions.see predictions.judge backtest.run audit.see metrics.see",
        ),
        Role(ADMINISTRATOR, "Administrator", "Says who may do what, and may do everything.", frozenset(PERMISSIONS), built_in=True),
    )
}  # fmt: skip
