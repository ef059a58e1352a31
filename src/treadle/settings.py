"""Where Treadle runs: one table of name, default, one sentence. Never in the project file.

A setting is read from the environment (`TREADLE_` + its name in capitals), else from `treadle.toml` in the project folder, else it is the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from treadle.core.errors import ProjectError

TABLE: dict[str, tuple[str, str]] = {
    "home": (".treadle", "Folder, relative to the project, of everything Treadle stores on this machine."),
    "ledger": ("sqlite:///{home}/ledger.db", "The one record of the loop."),
    "blobs": ("file:///{home}/blobs", "Where bytes are stored: packages, step results, files."),
    "tables": ("delta:///{home}/tables", "Where versions of data sets are stored, as Delta Lake tables."),
    "online": ("sqlite:///{home}/online.db", "The latest feature values, for serving."),
    "predictions": ("sqlite:///{home}/predictions.db", "The prediction log and the outcomes."),
    "executor": ("inprocess:", "Where the steps of a pipeline run."),
    "notify": ("file:///{home}/alarms.jsonl", "Where alarms go; several addresses separated by spaces."),
    "host": ("127.0.0.1", "The address an endpoint listens on."),
    "port": ("0", "The port of an endpoint whose project does not say; 0 picks a free one."),
    "workers": ("1", "Processes that answer, of an endpoint whose project does not say; about one for each core."),
    "worker_memory": ("", "Memory of one such process, for example `500MB`, above which it is replaced by a fresh one; any if empty."),
    "tls_cert": ("", "A PEM file with the endpoint's certificate and its chain; with `tls_key` an endpoint answers over HTTPS only."),
    "tls_key": ("", "A PEM file with the certificate's private key, which only its owner may read."),
    "api_key": ("", "The API key that commands show to an endpoint that needs one (`treadle keys make`)."),
    "access_log": ("", "A file that gets a JSON line a request, for example `{home}/logs/access-{model}.jsonl`; none if empty."),
    "otlp": ("", "An OpenTelemetry collector that gets a span a request, for example `http://127.0.0.1:4318`; none if empty."),
    "trace_share": ("1", "The share of requests that are traced when their caller does not say."),
    "threads": ("0", "Threads a training may use; 0 takes half the cores (threads that wait for a busy core cost many times what they bring)."),
    "memory": ("", "Memory that a step's rows may take, for example `8GB`; what needs more is computed on the disk. Half of what is free if empty."),
    "keys": ("{home}/keys", "Folder of the key that packages are signed with, and of the keys whose signatures count."),
    "signing": ("auto", "`auto` makes a key with the first version of a project whose ledger is a file of its own; `off` leaves it to you."),
    "model_code": ("no", "`yes` allows models that run code of their own: pickles of your own runs, MLmodel folders. They must be signed."),
    "trigger_token": ("", "What a caller of `POST /triggers/NAME` or `/features/VIEW` shows: 16 characters or more; without it nothing listens."),
    "console_url": ("", "The address people open the console at, for example `https://treadle.example.com`; this machine only if empty."),
    "oidc_issuer": ("", "An OpenID provider to sign in to the console with, exactly as it calls itself, for example `https://login.example.org`."),
    "oidc_client_id": ("", "The id under which this project is registered with that provider."),
    "oidc_client_secret": ("", "The secret of that registration, best as `TREADLE_OIDC_CLIENT_SECRET`, or `file:` and the path of a private file."),
    "oidc_roles": ("", "Who gets which role or @group by what the provider says, for example `groups:ops=devops_engineer, groups:ml=@modellers`."),
    "oidc_hosts": ("", "Further hosts that the provider's own addresses may be at, separated by spaces; the issuer's alone if empty."),
    "actor": ("", "Who is acting, as recorded in the audit log; your login name if empty."),
}


@dataclass(frozen=True)
class Settings:
    """The settings of one project folder, with `{home}` filled in."""

    home: Path
    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values[name]


def read_settings(folder: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings for a project folder. Raises ProjectError for a name that is not in the table."""
    env = os.environ if environment is None else environment
    file = folder / "treadle.toml"
    given: dict[str, str] = {}
    if file.exists():
        try:
            given = {k: str(v) for k, v in tomllib.loads(file.read_text("utf-8")).items()}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProjectError(f"The settings do not parse: {error}.", where=str(file)) from None
    for name in given:
        if name not in TABLE:
            raise ProjectError(f"There is no setting {name!r}.", where=str(file), hint=f"Settings are: {', '.join(TABLE)}.")
    values = {name: env.get(f"TREADLE_{name.upper()}", given.get(name, default)) for name, (default, _) in TABLE.items()}
    home = Path(values["home"])
    home = home if home.is_absolute() else folder / home
    return Settings(home, {k: v.replace("{home}", str(home)) for k, v in values.items()})


def scheme(settings: Settings) -> str:
    """How an endpoint of this project is called: 'http', or 'https' when there is a certificate."""
    return "https" if settings["tls_cert"] else "http"
