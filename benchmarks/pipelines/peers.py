"""Who is compared, and how each is set up, run, and asked what it recorded.

A program is a folder beside this file; it is copied to a fresh temporary folder, which is the working folder and the home of every command.
In commands, {env} is the bin folder of the tool's virtual environment, {home} the temporary folder, {path} and {factor} the parameters of P6c.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Peer:
    """One way to run the programs of one tool.

    Args:
        name: what it is called in tables.
        tool: its folder and its virtual environment.
        package: the package whose version is told.
        runs: the command of each row.
        setup: commands that are needed once after installation (data base migrations, init); measured, but not counted.
        environment: what it needs beside what all get.
        resume: the command that its documentation names for going on after a crash, if it is not the same command again.
        states: prints 'state: ...' for each recorded run (after P6d); empty if it records none.
        keeps: how its result cache is turned on; empty if it has none.
        place: where in the folder the input file of P6c lies.
        note: said below the tables.
    """

    name: str
    tool: str
    package: str
    runs: dict[str, list[str]]
    setup: list[list[str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    resume: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    keeps: str = ""
    place: str = "."
    note: str = ""


def _python(*rest: str) -> list[str]:
    return ["{env}/python", *rest]


PEERS = [
    Peer(
        "plain",
        "plain",
        "polars",
        {"p6": _python("p6.py"), "p6b": _python("p6b.py")},
        note="a loop; P6b: each function reads what the one before wrote, and writes Parquet by hand (Polars).",
    ),
    Peer(
        "plain in memory",
        "plain",
        "polars",
        {"p6b": _python("p6b_in_memory.py")},
        note="the same, handed on in memory: written, but not read back.",
    ),
    Peer(
        "treadle",
        "treadle",
        "treadle",
        {
            "p6": ["{env}/treadle", "-C", "p6", "run", "p6", "--set", "steps={steps}"],
            "p6b": ["{env}/treadle", "-C", "p6b", "run", "p6b", "--set", "path={table}"],
            "p6c": ["{env}/treadle", "-C", "p6c", "run", "p6c", "--set", "path={path}", "--set", "factor={factor}"],
            "p6d": ["{env}/treadle", "-C", "p6d", "run", "p6d"],
        },
        resume=["{env}/treadle", "-C", "p6d", "resume"],
        states=_python("states.py"),
        keeps="always on",
        place="p6c",
        note="Polars tables.",
    ),
    Peer(
        "hamilton",
        "hamilton",
        "apache-hamilton",
        {"p6": _python("p6.py"), "p6b": _python("p6b.py"), "p6c": _python("p6c.py", "{path}", "{factor}"), "p6d": _python("p6d.py")},
        environment={"HAMILTON_TELEMETRY_ENABLED": "false"},
        keeps="Builder().with_cache()",
        note="Polars tables, kept by @cache(format='parquet'). A library: it records no runs.",
    ),
    Peer(
        "kedro",
        "kedro",
        "kedro",
        {
            "p6": ["{env}/kedro", "run", "--pipeline", "p6"],
            "p6b": ["{env}/kedro", "run", "--pipeline", "p6b"],
            "p6c": ["{env}/kedro", "run", "--pipeline", "p6c", "--params", "factor={factor}", "--only-missing-outputs"],
            "p6d": ["{env}/kedro", "run", "--pipeline", "p6d"],
        },
        environment={"KEDRO_DISABLE_TELEMETRY": "1", "KEDRO_LOGGING_CONFIG": ""},
        resume=["{env}/kedro", "run", "--pipeline", "p6d", "--only-missing-outputs"],
        keeps="kedro run --only-missing-outputs (looks only whether the file is there)",
        note="P6 hands on in memory (its default) and keeps nothing; P6b: Polars data sets in Parquet; P6c and P6d: pickled data sets.",
    ),
    Peer(
        "dvc",
        "dvc",
        "dvc",
        {r: ["{env}/dvc", "repro", f"{r}/dvc.yaml"] for r in ("p6", "p6b", "p6c", "p6d")},
        setup=[["{env}/dvc", "init", "--no-scm", "--quiet"]],
        environment={"DVC_NO_ANALYTICS": "1"},
        keeps="always on",
        place="p6c",
        note="A process a stage; Polars tables in Parquet files. One script a stage, named as its dependency.",
    ),
    Peer(
        "metaflow",
        "metaflow",
        "metaflow",
        {r: _python(f"{r}.py", "run") for r in ("p6", "p6b", "p6c", "p6d")},
        environment={"METAFLOW_DEFAULT_DATASTORE": "local", "METAFLOW_DEFAULT_METADATA": "local"},
        resume=_python("p6d.py", "resume"),
        states=_python("states.py"),
        note="A process a step; Polars tables as artifacts (pickle, gzip).",
    ),
    Peer(
        "prefect",
        "prefect",
        "prefect",
        {"p6": _python("p6.py"), "p6b": _python("p6b.py"), "p6c": _python("p6c.py", "{path}", "{factor}"), "p6d": _python("p6d.py")},
        setup=[["{env}/prefect", "server", "database", "upgrade", "-y"]],
        environment={"PREFECT_HOME": "{home}/.prefect", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"},
        states=_python("states.py"),
        keeps="persist_result=True, cache_policy=INPUTS + TASK_SOURCE",
        note="The ephemeral server that the first command starts is counted. Polars tables, kept by its default serializer (pickle).",
    ),
    Peer(
        "zenml",
        "zenml",
        "zenml",
        {"p6": _python("p6.py"), "p6b": _python("p6b.py"), "p6c": _python("p6c.py", "{path}", "{factor}"), "p6d": _python("p6d.py")},
        setup=[["{env}/zenml", "init"]],
        environment={
            "ZENML_CONFIG_PATH": "{home}/.zen",
            "ZENML_ANALYTICS_OPT_IN": "false",
            "AUTO_OPEN_DASHBOARD": "false",
            "ZENML_LOGGING_COLORS_DISABLED": "true",
        },
        states=_python("states.py"),
        keeps="always on",
        note="Default local stack. Polars tables by its Polars integration (Parquet).",
    ),
    Peer(
        "dagster",
        "dagster",
        "dagster",
        {r: ["{env}/dagster", "job", "execute", "-f", f"{r}.py", "-j", "default"] for r in ("p6", "p6b", "p6c", "p6d")},
        environment={"DAGSTER_HOME": "{home}", "DAGSTER_DISABLE_TELEMETRY": "1"},
        resume=_python("resume.py"),
        states=_python("states.py"),
        note="The default executor: a process an op. Polars tables by the default IO manager (pickle).",
    ),
    Peer(
        "dagster in process",
        "dagster",
        "dagster",
        {r: ["{env}/dagster", "job", "execute", "-f", f"{r}.py", "-j", "in_process"] for r in ("p6", "p6b")},
        environment={"DAGSTER_HOME": "{home}", "DAGSTER_DISABLE_TELEMETRY": "1"},
        note="The same with in_process_executor.",
    ),
    Peer(
        "airflow",
        "airflow",
        "apache-airflow",
        {r: ["{env}/airflow", "dags", "test", r] for r in ("p6", "p6b", "p6c", "p6d")},
        setup=[["{env}/airflow", "db", "migrate"]],
        environment={
            "AIRFLOW_HOME": "{home}",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": "{home}/dags",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "SCARF_ANALYTICS": "false",
            "DO_NOT_TRACK": "true",
        },
        states=["sh", "-c", "{env}/airflow dags list-runs p6d -o plain 2>/dev/null | awk '/^p6d/ {print \"state:\", $3}'"],
        note="`airflow dags test`, one process, no scheduler. Tables in Parquet files, their paths as XComs.",
    ),
]
# The same tools, told by hand what they do not see: P6c only.
BY_HAND = {
    "dvc": ["sh", "-c", "cp p6c/by_hand.yaml p6c/dvc.yaml && exec {env}/dvc repro p6c/dvc.yaml"],
    "prefect": _python("p6c.py", "{path}", "{factor}", "by-hand"),
    "zenml": _python("p6c.py", "{path}", "{factor}", "by-hand"),
}


def bin_folder(tool: str, environments: str) -> str:
    """The bin folder of a tool's virtual environment; Treadle's is the one that runs the benchmark."""
    return f"{sys.prefix}/bin" if tool == "treadle" else f"{environments}/{tool}/bin"
