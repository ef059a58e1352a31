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

    def runs_list(self, *, limit: int | None = None, after: str | None = None, scope: str | None = None, status: str | None = None) -> dict[str, Any]:
        """The runs, newest first. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs", {}, {"limit": limit, "after": after, "scope": scope, "status": status}))

    def runs_see(self, run: str) -> dict[str, Any]:
        """One run: its steps with times, reasons and logs. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs/{run}", {"run": run}, {}))

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
        """One model: how it stands, its versions, what waits. Needs 'models.see'."""
        return dict(self._ask("GET", "/models/{model}", {"model": model}, {"limit": limit, "after": after}))

    def models_report(self, model: str) -> bytes:
        """The whole report as a file; reads the whole prediction log. Needs 'models.see'."""
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
            self._ask("POST", "/models/{model}/versions/{number}/answer", {"model": model, "number": number}, {"answer": answer, "evidence": evidence, "reason": reason, "lasts": lasts}, key=key)
        )

    def models_waive(self, model: str, *, gate: str, reason: str, until: str, number: int | None = None, key: str | None = None) -> dict[str, Any]:
        """Waive a gate for a time. Needs 'models.waive'."""
        return dict(
            self._ask("POST", "/models/{model}/waive", {"model": model}, {"gate": gate, "reason": reason, "until": until, "number": number}, key=key)
        )

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
        self, model: str, *, row: Mapping[str, Any] | None = None, names: list[str] | None = None, values: list[str] | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Ask an endpoint for a prediction by hand. Needs 'deployments.try'."""
        return dict(self._ask("POST", "/deployments/{model}/try", {"model": model}, {"row": row, "names": names, "values": values}, key=key))

    def notes_list(
        self, *, limit: int | None = None, after: str | None = None, by: str | None = None, on: str | None = None, kind: str | None = None, status: str | None = None
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
        self, *, who: str | None = None, what: str | None = None, subject: str | None = None, since: str | None = None, until: str | None = None, limit: int | None = None, after: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """The entries of the audit log, newest first. Needs 'audit.see'."""
        return dict(
            self._ask("GET", "/audit", {}, {"who": who, "what": what, "subject": subject, "since": since, "until": until, "limit": limit, "after": after})
        )

    def audit_state(self) -> dict[str, Any]:
        """Whether the chain of hashes holds, going on from what this server checked before. Needs 'audit.see'."""
        return dict(self._ask("GET", "/audit/state", {}, {}))

    def audit_check(self) -> dict[str, Any]:
        """Compute every hash of the log again. Needs 'audit.see'."""
        return dict(self._ask("GET", "/audit/check", {}, {}))

    def audit_export(
        self, *, who: str | None = None, what: str | None = None, subject: str | None = None, since: str | None = None, until: str | None = None, format: str | None = None
    ) -> bytes:  # fmt: skip
        """The log as lines of JSON or as CSV. Needs 'audit.export'."""
        return bytes(
            self._ask("GET", "/audit/export", {}, {"who": who, "what": what, "subject": subject, "since": since, "until": until, "format": format}, raw=True)
        )

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
        self, *, name: str, full: str | None = None, email: str | None = None, password: str | None = None, roles: list[str] | None = None, groups: list[str] | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Add a person. Needs 'access.change'."""
        return dict(
            self._ask("POST", "/access/people", {}, {"name": name, "full": full, "email": email, "password": password, "roles": roles, "groups": groups}, key=key)
        )

    def access_change_person(
        self, person: str, *, expect: int, full: str | None = None, email: str | None = None, roles: list[str] | None = None, groups: list[str] | None = None, disabled: bool | None = None, key: str | None = None
    ) -> dict[str, Any]:  # fmt: skip
        """Say what a person holds; all of it is replaced. Needs 'access.change'."""
        return dict(
            self._ask("POST", "/access/people/{person}", {"person": person}, {"expect": expect, "full": full, "email": email, "roles": roles, "groups": groups, "disabled": disabled}, key=key)
        )

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
            self._ask("POST", "/access/roles/{role}", {"role": role}, {"expect": expect, "title": title, "sentence": sentence, "permissions": permissions}, key=key)
        )

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
