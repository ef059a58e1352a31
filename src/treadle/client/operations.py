"""A method for each operation of a Treadle server. Written by scripts/client_operations.py from the server's table: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Operations:
    """What a server can be asked. Every method raises the errors of `treadle.core.errors` that the server tells of, and Unavailable."""

    def _ask(self, method: str, path: str, names: Mapping[str, str], given: Mapping[str, Any], raw: bool = False, key: str | None = None) -> Any:
        raise NotImplementedError

    def home_see(self, *, model: str | None = None) -> dict[str, Any]:
        """How the project stands: models, stations of the loop, what needs a person. Needs 'home.see'."""
        return dict(self._ask("GET", "/home", {}, {"model": model}))

    def runs_list(
        self, *, limit: int | None = None, after: str | None = None, kind: str | None = None, scope: str | None = None, status: str | None = None,
        cause: str | None = None, by: str | None = None, query: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """The runs, newest first, by filters and by a question over parameters and metrics. Needs 'runs.see'."""
        return dict(
            self._ask("GET", "/runs", {}, {"limit": limit, "after": after, "kind": kind, "scope": scope, "status": status, "cause": cause, "by": by,
            "query": query})
        )  # fmt: skip

    def runs_compare(self, *, run: list[str], metric: str | None = None) -> dict[str, Any]:
        """Two to eight runs side by side. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs/compare", {}, {"run": run, "metric": metric}))

    def runs_see(self, run: str) -> dict[str, Any]:
        """One run: its steps with times, reasons and logs, parameters, metrics, what it made. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs/{run}", {"run": run}, {}))

    def runs_tail(self, run: str, *, step: str, lines: int | None = None) -> dict[str, Any]:
        """The last lines of a step's log, also while it runs. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs/{run}/tail", {"run": run}, {"step": step, "lines": lines}))

    def runs_log(self, run: str, *, step: str | None = None) -> bytes:
        """The whole log of a step, or of all steps, as a file. Needs 'runs.see'."""
        return bytes(self._ask("GET", "/runs/{run}/log", {"run": run}, {"step": step}, raw=True))

    def runs_start(
        self, *, target: str, params: str | None = None, as_of: str | None = None, until: str | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Run a model or pipeline. Needs 'runs.start'."""
        return dict(self._ask("POST", "/runs/start", {}, {"target": target, "params": params, "as_of": as_of, "until": until}, key=key))

    def runs_resume(self, run: str, *, key: str | None = None) -> dict[str, Any]:
        """Go on with a run. Needs 'runs.start'."""
        return dict(self._ask("POST", "/runs/{run}/resume", {"run": run}, {}, key=key))

    def runs_stop(self, run: str, *, reason: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Stop a run; what had finished is kept. Needs 'runs.stop'."""
        return dict(self._ask("POST", "/runs/{run}/stop", {"run": run}, {"reason": reason}, key=key))

    def runs_answer(self, run: str, *, step: str, answer: str, reason: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Answer a step that asks a person. Needs 'runs.start'."""
        return dict(self._ask("POST", "/runs/{run}/answer", {"run": run}, {"step": step, "answer": answer, "reason": reason}, key=key))

    def data_list(self) -> dict[str, Any]:
        """The data sets and feature views, and how each stands. Needs 'data.see'."""
        return dict(self._ask("GET", "/data", {}, {}))

    def features_list(self, *, column: str | None = None) -> dict[str, Any]:
        """Every feature, and what breaks without a column. Needs 'data.see'."""
        return dict(self._ask("GET", "/features", {}, {"column": column}))

    def features_see(self, view: str) -> dict[str, Any]:
        """One feature view. Needs 'data.see'."""
        return dict(self._ask("GET", "/features/{view}", {"view": view}, {}))

    def features_materialise(self, view: str, *, key: str | None = None) -> dict[str, Any]:
        """Bring the online values of a view up to date. Needs 'data.fix'."""
        return dict(self._ask("POST", "/features/{view}/materialise", {"view": view}, {}, key=key))

    def data_see(self, dataset: str, *, limit: int | None = None, after: str | None = None) -> dict[str, Any]:
        """One data set: contract, columns, versions, lineage. Needs 'data.see'."""
        return dict(self._ask("GET", "/data/{dataset}", {"dataset": dataset}, {"limit": limit, "after": after}))

    def data_diff(self, dataset: str, *, old: str | None = None, new: str | None = None) -> dict[str, Any]:
        """What differs between two versions. Needs 'data.see'."""
        return dict(self._ask("GET", "/data/{dataset}/diff", {"dataset": dataset}, {"old": old, "new": new}))

    def data_columns(self, dataset: str, *, version: str | None = None) -> dict[str, Any]:
        """How the columns of a version are distributed. Needs 'data.see'."""
        return dict(self._ask("GET", "/data/{dataset}/columns", {"dataset": dataset}, {"version": version}))

    def data_accept(self, dataset: str, *, reason: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Accept a change of columns that stopped a run. Needs 'data.fix'."""
        return dict(self._ask("POST", "/data/{dataset}/accept", {"dataset": dataset}, {"reason": reason, "expect": expect}, key=key))

    def quarantine_list(self, dataset: str, *, limit: int | None = None, skip: int | None = None) -> dict[str, Any]:
        """Rows that broke their contract, with reasons. Needs 'data.rows'."""
        return dict(self._ask("GET", "/data/{dataset}/quarantine", {"dataset": dataset}, {"limit": limit, "skip": skip}))

    def quarantine_fix(self, dataset: str, *, row: str, values: str, reason: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Correct values of a row that was set aside. Needs 'data.fix'."""
        return dict(
            self._ask("POST", "/data/{dataset}/quarantine/fix", {"dataset": dataset}, {"row": row, "values": values, "reason": reason}, key=key)
        )  # fmt: skip

    def quarantine_release(self, dataset: str, *, row: str, reason: str, key: str | None = None) -> dict[str, Any]:
        """Let a row in as it is. Needs 'data.fix'."""
        return dict(self._ask("POST", "/data/{dataset}/quarantine/release", {"dataset": dataset}, {"row": row, "reason": reason}, key=key))

    def quarantine_undo(self, dataset: str, *, row: str, reason: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Take a decision about a row back. Needs 'data.fix'."""
        return dict(self._ask("POST", "/data/{dataset}/quarantine/undo", {"dataset": dataset}, {"row": row, "reason": reason}, key=key))

    def backtest_list(self, *, limit: int | None = None, after: str | None = None) -> dict[str, Any]:
        """Comparisons of policies, and what runs have cost. Needs 'backtest.see'."""
        return dict(self._ask("GET", "/value", {}, {"limit": limit, "after": after}))

    def backtest_see(self, backtest: str) -> dict[str, Any]:
        """One comparison of policies. Needs 'backtest.see'."""
        return dict(self._ask("GET", "/value/{backtest}", {"backtest": backtest}, {}))

    def backtest_start(
        self, *, model: str, policies: str | None = None, start: str | None = None, end: str | None = None, cpu_price: float | None = None,
        training_price: float | None = None, miss_price: float | None = None, alarm_price: float | None = None, currency: str | None = None, key:
        str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Compare policies of retraining on recorded history. Needs 'backtest.run'."""
        return dict(
            self._ask("POST", "/value/start", {}, {"model": model, "policies": policies, "start": start, "end": end, "cpu_price": cpu_price,
            "training_price": training_price, "miss_price": miss_price, "alarm_price": alarm_price, "currency": currency}, key=key)
        )  # fmt: skip

    def commands_list(self, *, limit: int | None = None, after: str | None = None) -> dict[str, Any]:
        """The commands that the server ran, newest first. Needs 'home.see'."""
        return dict(self._ask("GET", "/commands", {}, {"limit": limit, "after": after}))

    def commands_start(self, *, argv: list[str], key: str | None = None) -> dict[str, Any]:
        """Run a command of the command line; each needs a permission of its own. Needs 'home.see'."""
        return dict(self._ask("POST", "/commands", {}, {"argv": argv}, key=key))

    def commands_see(self, command: str, *, out: int | None = None, err: int | None = None, wait: float | None = None) -> dict[str, Any]:
        """How a command stands, and what it printed from an offset on. Needs 'home.see'."""
        return dict(self._ask("GET", "/commands/{command}", {"command": command}, {"out": out, "err": err, "wait": wait}))

    def commands_file(self, command: str) -> bytes:
        """The file that a command wrote. Needs 'home.see'."""
        return bytes(self._ask("GET", "/commands/{command}/file", {"command": command}, {}, raw=True))

    def commands_stop(self, command: str, *, key: str | None = None) -> dict[str, Any]:
        """Stop a command as Ctrl-C does. Needs 'home.see'."""
        return dict(self._ask("POST", "/commands/{command}/stop", {"command": command}, {}, key=key))

    def metrics_see(self) -> bytes:
        """Every watched number, in Prometheus' text format. Needs 'metrics.see'."""
        return bytes(self._ask("GET", "/metrics", {}, {}, raw=True))

    def models_list(self) -> dict[str, Any]:
        """The models, each with its newest version and what answers. Needs 'models.see'."""
        return dict(self._ask("GET", "/models", {}, {}))

    def models_see(self, model: str, *, limit: int | None = None, after: str | None = None) -> dict[str, Any]:
        """One model: how it stands, its versions. Needs 'models.see'."""
        return dict(self._ask("GET", "/models/{model}", {"model": model}, {"limit": limit, "after": after}))

    def models_report(self, model: str) -> bytes:
        """The whole report as a file; reads the prediction log. Needs 'models.see'."""
        return bytes(self._ask("GET", "/models/{model}/report", {"model": model}, {}, raw=True))

    def models_compare(self, model: str, *, old: int, new: int, runs: bool | None = None) -> dict[str, Any]:
        """Two versions side by side. Needs 'models.see'."""
        return dict(self._ask("GET", "/models/{model}/compare", {"model": model}, {"old": old, "new": new, "runs": runs}))

    def models_version(self, model: str, number: str) -> dict[str, Any]:
        """One version: evidence, how it was made, who approved it. Needs 'models.see'."""
        return dict(self._ask("GET", "/models/{model}/versions/{number}", {"model": model, "number": number}, {}))

    def models_card(self, model: str, number: str, *, format: str | None = None) -> bytes:
        """The model card of a version, as a file. Needs 'models.see'."""
        return bytes(self._ask("GET", "/models/{model}/versions/{number}/card", {"model": model, "number": number}, {"format": format}, raw=True))

    def models_ask(self, model: str, number: str, *, to: str | None = None, text: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Ask for a version to be approved. Needs 'models.ask'."""
        return dict(self._ask("POST", "/models/{model}/versions/{number}/ask", {"model": model, "number": number}, {"to": to, "text": text}, key=key))

    def models_withdraw(self, model: str, number: str, *, key: str | None = None) -> dict[str, Any]:
        """Ask no longer. Needs 'models.ask'."""
        return dict(self._ask("POST", "/models/{model}/versions/{number}/withdraw", {"model": model, "number": number}, {}, key=key))

    def models_answer(
        self, model: str, number: str, *, answer: str, evidence: str, reason: str | None = None, lasts: str | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Approve or reject a version. Needs 'models.approve'."""
        return dict(
            self._ask("POST", "/models/{model}/versions/{number}/answer", {"model": model, "number": number}, {"answer": answer, "evidence":
            evidence, "reason": reason, "lasts": lasts}, key=key)
        )  # fmt: skip

    def models_waive(self, model: str, *, gate: str, reason: str, until: str, number: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Waive a gate for a time. Needs 'models.waive'."""
        return dict(
            self._ask("POST", "/models/{model}/waive", {"model": model}, {"gate": gate, "reason": reason, "until": until, "number": number},
            key=key)
        )  # fmt: skip

    def deployments_list(self) -> dict[str, Any]:
        """What answers, model by model. Needs 'deployments.see'."""
        return dict(self._ask("GET", "/deployments", {}, {}))

    def deployments_see(self, model: str, *, weigh: bool | None = None, before: int | None = None) -> dict[str, Any]:
        """The deployment of a model: stage, versions, endpoint, latency, differences, evidence, changes. Needs 'deployments.see'."""
        return dict(self._ask("GET", "/deployments/{model}", {"model": model}, {"weigh": weigh, "before": before}))

    def deployments_promote(self, model: str, *, reason: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """The challenger becomes champion. Needs 'deployments.change'."""
        return dict(self._ask("POST", "/deployments/{model}/promote", {"model": model}, {"reason": reason, "expect": expect}, key=key))

    def deployments_reject(self, model: str, *, reason: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Throw the challenger out. Needs 'deployments.change'."""
        return dict(self._ask("POST", "/deployments/{model}/reject", {"model": model}, {"reason": reason, "expect": expect}, key=key))

    def deployments_roll_back(
        self, model: str, *, reason: str, expect: int | None = None, to: int | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Take out the version that was brought in last. Needs 'deployments.change'."""
        return dict(self._ask("POST", "/deployments/{model}/rollback", {"model": model}, {"reason": reason, "expect": expect, "to": to}, key=key))

    def deployments_stop(self, model: str, *, reason: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """The kill switch: nothing answers from now on. Needs 'deployments.change'."""
        return dict(self._ask("POST", "/deployments/{model}/stop", {"model": model}, {"reason": reason, "expect": expect}, key=key))

    def deployments_resume(self, model: str, *, reason: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Let a stopped model answer again. Needs 'deployments.change'."""
        return dict(self._ask("POST", "/deployments/{model}/resume", {"model": model}, {"reason": reason, "expect": expect}, key=key))

    def deployments_deploy(
        self, model: str, *, reason: str, version: int | None = None, now: bool | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Begin to deploy a version. Needs 'deployments.change'."""
        return dict(self._ask("POST", "/deployments/{model}/deploy", {"model": model}, {"reason": reason, "version": version, "now": now}, key=key))

    def deployments_fields(self, model: str) -> dict[str, Any]:
        """The fields that a model takes. Needs 'deployments.try'."""
        return dict(self._ask("GET", "/deployments/{model}/try", {"model": model}, {}))

    def deployments_try_it(
        self, model: str, *, row: Mapping[str, Any] | None = None, names: list[str] | None = None, values: list[str] | None = None, key: str | None
        = None
    ) -> dict[str, Any]:  # fmt: skip
        """Ask an endpoint for a prediction by hand. Needs 'deployments.try'."""
        return dict(self._ask("POST", "/deployments/{model}/try", {"model": model}, {"row": row, "names": names, "values": values}, key=key))

    def notes_list(
        self, *, limit: int | None = None, after: str | None = None, by: str | None = None, on: str | None = None, kind: str | None = None, status:
        str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """The notes about everything, newest first. Needs 'home.see'."""
        return dict(self._ask("GET", "/notes", {}, {"limit": limit, "after": after, "by": by, "on": on, "kind": kind, "status": status}))

    def notes_mine(self) -> dict[str, Any]:
        """What is open between whoever asks and others: questions, requests, hand-overs. Needs 'home.see'."""
        return dict(self._ask("GET", "/notes/mine", {}, {}))

    def notes_about(self, *, on: str, limit: int | None = None) -> dict[str, Any]:
        """The owner of a thing, its hand-overs and its newest notes. Needs 'home.see'."""
        return dict(self._ask("GET", "/notes/about", {}, {"on": on, "limit": limit}))

    def notes_see(self, note: str) -> dict[str, Any]:
        """A note, with its earlier texts and its answers. Needs 'home.see'."""
        return dict(self._ask("GET", "/notes/{note}", {"note": note}, {}))

    def notes_write(
        self, *, on: str, text: str, kind: str | None = None, to: str | None = None, answers: str | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Write a comment, a question or a request for change. Needs 'notes.write'."""
        return dict(self._ask("POST", "/notes", {}, {"on": on, "text": text, "kind": kind, "to": to, "answers": answers}, key=key))

    def notes_edit(self, note: str, *, text: str, expect: int, key: str | None = None) -> dict[str, Any]:
        """Change one's own note. Needs 'notes.write'."""
        return dict(self._ask("POST", "/notes/{note}/edit", {"note": note}, {"text": text, "expect": expect}, key=key))

    def notes_withdraw(self, note: str, *, expect: int, key: str | None = None) -> dict[str, Any]:
        """Take back one's own note. Needs 'notes.write'."""
        return dict(self._ask("POST", "/notes/{note}/withdraw", {"note": note}, {"expect": expect}, key=key))

    def notes_settle(self, note: str, *, how: str, expect: int, key: str | None = None) -> dict[str, Any]:
        """Settle a question or a request for change. Needs 'notes.write'."""
        return dict(self._ask("POST", "/notes/{note}/settle", {"note": note}, {"how": how, "expect": expect}, key=key))

    def notices_list(self, *, unread: bool | None = None, limit: int | None = None) -> dict[str, Any]:
        """What whoever asks was told, the unread first. Needs 'home.see'."""
        return dict(self._ask("GET", "/notices", {}, {"unread": unread, "limit": limit}))

    def notices_read(self, *, ids: list[str], key: str | None = None) -> dict[str, Any]:
        """Mark notices as read. Needs 'home.see'."""
        return dict(self._ask("POST", "/notices/read", {}, {"ids": ids}, key=key))

    def owners_offer(self, *, on: str, to: str, expect: int, text: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Offer a thing to somebody: a hand-over. Needs 'notes.write'."""
        return dict(self._ask("POST", "/owners/offer", {}, {"on": on, "to": to, "expect": expect, "text": text}, key=key))

    def owners_accept(self, *, on: str, expect: int, text: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Accept a hand-over. Needs 'notes.write'."""
        return dict(self._ask("POST", "/owners/accept", {}, {"on": on, "expect": expect, "text": text}, key=key))

    def owners_decline(self, *, on: str, expect: int, text: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Decline a hand-over. Needs 'notes.write'."""
        return dict(self._ask("POST", "/owners/decline", {}, {"on": on, "expect": expect, "text": text}, key=key))

    def owners_take_back(self, *, on: str, expect: int, text: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Take back a hand-over that was offered. Needs 'notes.write'."""
        return dict(self._ask("POST", "/owners/take-back", {}, {"on": on, "expect": expect, "text": text}, key=key))

    def audit_list(
        self, *, who: str | None = None, what: str | None = None, subject: str | None = None, since: str | None = None, until: str | None = None,
        limit: int | None = None, after: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """The entries of the audit log, newest first. Needs 'audit.see'."""
        return dict(
            self._ask("GET", "/audit", {}, {"who": who, "what": what, "subject": subject, "since": since, "until": until, "limit": limit, "after":
            after})
        )  # fmt: skip

    def audit_state(self) -> dict[str, Any]:
        """Whether the chain of hashes holds, going on from what this server checked before. Needs 'audit.see'."""
        return dict(self._ask("GET", "/audit/state", {}, {}))

    def audit_check(self) -> dict[str, Any]:
        """Compute every hash of the log again. Needs 'audit.see'."""
        return dict(self._ask("GET", "/audit/check", {}, {}))

    def audit_export(
        self, *, who: str | None = None, what: str | None = None, subject: str | None = None, since: str | None = None, until: str | None = None,
        format: str | None = None
    ) -> bytes:  # fmt: skip
        """The log as lines of JSON or as CSV. Needs 'audit.export'."""
        return bytes(
            self._ask("GET", "/audit/export", {}, {"who": who, "what": what, "subject": subject, "since": since, "until": until, "format": format},
            raw=True)
        )  # fmt: skip

    def alarms_list(
        self, *, limit: int | None = None, after: str | None = None, status: str | None = None, model: str | None = None, kind: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """The alarms, newest first; the open ones if nothing is said. Needs 'alarms.see'."""
        return dict(self._ask("GET", "/alarms", {}, {"limit": limit, "after": after, "status": status, "model": model, "kind": kind}))

    def alarms_see(self, alarm: str) -> dict[str, Any]:
        """One alarm: causes, evidence, what was done. Needs 'alarms.see'."""
        return dict(self._ask("GET", "/alarms/{alarm}", {"alarm": alarm}, {}))

    def alarms_acknowledge(self, alarm: str, *, note: str | None = None, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Say that somebody is at it. Needs 'alarms.answer'."""
        return dict(self._ask("POST", "/alarms/{alarm}/acknowledge", {"alarm": alarm}, {"note": note, "expect": expect}, key=key))

    def alarms_snooze(self, alarm: str, *, until: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Tell nobody of it for a while. Needs 'alarms.answer'."""
        return dict(self._ask("POST", "/alarms/{alarm}/snooze", {"alarm": alarm}, {"until": until, "expect": expect}, key=key))

    def alarms_resolve(self, alarm: str, *, because: str, expect: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Close an alarm, with a reason. Needs 'alarms.answer'."""
        return dict(self._ask("POST", "/alarms/{alarm}/resolve", {"alarm": alarm}, {"because": because, "expect": expect}, key=key))

    def reactions_list(
        self, *, limit: int | None = None, after: str | None = None, model: str | None = None, status: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """What was done by itself about which cause. Needs 'alarms.see'."""
        return dict(self._ask("GET", "/reactions", {}, {"limit": limit, "after": after, "model": model, "status": status}))

    def reactions_answer(self, reaction: str, *, answer: str, reason: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Say yes or no to a retrained version that waits. Needs 'alarms.answer'."""
        return dict(self._ask("POST", "/reactions/{reaction}/answer", {"reaction": reaction}, {"answer": answer, "reason": reason}, key=key))

    def monitors_see(self, model: str) -> dict[str, Any]:
        """What a watch sees: drift, quality, limits, false alarms. Needs 'alarms.see'."""
        return dict(self._ask("GET", "/monitors/{model}", {"model": model}, {}))

    def why_find(self, *, text: str | None = None) -> dict[str, Any]:
        """Predictions by id, or by the key of what they are about. Needs 'predictions.see'."""
        return dict(self._ask("GET", "/why", {}, {"text": text}))

    def why_see(self, prediction: str) -> dict[str, Any]:
        """The whole story of one prediction, and what moved it. Needs 'predictions.see'."""
        return dict(self._ask("GET", "/why/{prediction}", {"prediction": prediction}, {}))

    def why_ask(self, prediction: str) -> dict[str, Any]:
        """What a person is asked about a prediction. Needs 'predictions.judge'."""
        return dict(self._ask("GET", "/why/{prediction}/truth", {"prediction": prediction}, {}))

    def why_judge(self, prediction: str, *, value: str, key: str | None = None) -> dict[str, Any]:
        """Say the truth of a prediction. Needs 'predictions.judge'."""
        return dict(self._ask("POST", "/why/{prediction}/truth", {"prediction": prediction}, {"value": value}, key=key))

    def lineage_see(self, kind: str, id: str) -> dict[str, Any]:
        """What a thing comes from and led to, one step each way. Needs 'models.see'."""
        return dict(self._ask("GET", "/lineage/{kind}/{id}", {"kind": kind, "id": id}, {}))

    def access_see(self) -> dict[str, Any]:
        """People, groups and roles. Needs 'access.see'."""
        return dict(self._ask("GET", "/access", {}, {}))

    def access_person(self, person: str) -> dict[str, Any]:
        """One person: roles, sessions, tokens. Needs 'access.see'."""
        return dict(self._ask("GET", "/access/people/{person}", {"person": person}, {}))

    def access_role(self, role: str) -> dict[str, Any]:
        """What one role may do. Needs 'access.see'."""
        return dict(self._ask("GET", "/access/roles/{role}", {"role": role}, {}))

    def access_group(self, group: str) -> dict[str, Any]:
        """One group. Needs 'access.see'."""
        return dict(self._ask("GET", "/access/groups/{group}", {"group": group}, {}))

    def access_add_person(
        self, *, name: str, full: str | None = None, email: str | None = None, password: str | None = None, roles: list[str] | None = None, groups:
        list[str] | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Add a person. Needs 'access.change'."""
        return dict(
            self._ask("POST", "/access/people", {}, {"name": name, "full": full, "email": email, "password": password, "roles": roles, "groups":
            groups}, key=key)
        )  # fmt: skip

    def access_change_person(
        self, person: str, *, expect: int, full: str | None = None, email: str | None = None, roles: list[str] | None = None, groups: list[str] |
        None = None, disabled: bool | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Say what a person holds; all of it is replaced. Needs 'access.change'."""
        return dict(
            self._ask("POST", "/access/people/{person}", {"person": person}, {"expect": expect, "full": full, "email": email, "roles": roles,
            "groups": groups, "disabled": disabled}, key=key)
        )  # fmt: skip

    def access_set_password(self, person: str, *, password: str, key: str | None = None) -> dict[str, Any]:
        """Set a password; the person's sessions end. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/people/{person}/password", {"person": person}, {"password": password}, key=key))

    def access_make_link(self, person: str, *, key: str | None = None) -> dict[str, Any]:
        """A link that signs a person in once. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/people/{person}/link", {"person": person}, {}, key=key))

    def access_end_sessions(self, person: str, *, key: str | None = None) -> dict[str, Any]:
        """End a person's sessions. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/people/{person}/end", {"person": person}, {}, key=key))

    def access_add_group(
        self, *, name: str, roles: list[str] | None = None, members: list[str] | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Make a group. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/groups", {}, {"name": name, "roles": roles, "members": members}, key=key))

    def access_change_group(
        self, group: str, *, expect: int, roles: list[str] | None = None, members: list[str] | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Say what a group holds and who is in it. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/groups/{group}", {"group": group}, {"expect": expect, "roles": roles, "members": members}, key=key))

    def access_remove_group(self, group: str, *, expect: int, key: str | None = None) -> dict[str, Any]:
        """Take a group away. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/groups/{group}/remove", {"group": group}, {"expect": expect}, key=key))

    def access_set_role(
        self, role: str, *, expect: int, title: str, sentence: str | None = None, permissions: list[str] | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Say what a role holds. Needs 'access.change'."""
        return dict(
            self._ask("POST", "/access/roles/{role}", {"role": role}, {"expect": expect, "title": title, "sentence": sentence, "permissions":
            permissions}, key=key)
        )  # fmt: skip

    def access_reset_role(self, role: str, *, expect: int, key: str | None = None) -> dict[str, Any]:
        """Give a built-in role its profile back, or take one away. Needs 'access.change'."""
        return dict(self._ask("POST", "/access/roles/{role}/reset", {"role": role}, {"expect": expect}, key=key))

    def you_see(self) -> dict[str, Any]:
        """Who is asking: roles, permissions, tokens. Needs 'home.see'."""
        return dict(self._ask("GET", "/you", {}, {}))

    def you_make_token(self, *, name: str, permissions: list[str] | None = None, days: float | None = None, key: str | None = None) -> dict[str, Any]:
        """Make a token of one's own. Needs 'home.see'."""
        return dict(self._ask("POST", "/you/tokens", {}, {"name": name, "permissions": permissions, "days": days}, key=key))

    def you_revoke_token(self, token: str, *, key: str | None = None) -> dict[str, Any]:
        """Revoke a token of one's own. Needs 'home.see'."""
        return dict(self._ask("POST", "/you/tokens/{token}/revoke", {"token": token}, {}, key=key))

    def you_set_password(self, *, old: str, new: str, key: str | None = None) -> dict[str, Any]:
        """Change one's own password. Needs 'home.see'."""
        return dict(self._ask("POST", "/you/password", {}, {"old": old, "new": new}, key=key))

    def you_end_others(self, *, key: str | None = None) -> dict[str, Any]:
        """Sign out everywhere else. Needs 'home.see'."""
        return dict(self._ask("POST", "/you/end", {}, {}, key=key))
