"""The table of commands. Each is imported when it is called, so that `treadle --help` costs almost nothing.

Exit codes: 0 done; 1 failed; 2 wrong use; 3 wrong project or data; 4 refused by the evidence; 5 not found; 6 somebody else was first;
7 storage full, read-only or broken; 8 not available now; 130 stopped by hand.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from treadle import __version__
from treadle.core.errors import TreadleError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("treadle.cli.project:init", "Write a new project, or one for a data file."),
    "run": ("treadle.cli.project:run", "Run a pipeline, or turn the wheel for a model: data, features, training, evidence, version."),
    "plan": ("treadle.cli.pipelines:plan", "Say what a run would do and why, and run nothing."),
    "resume": ("treadle.cli.pipelines:resume", "Go on with a run that was killed, stopped, failed, or waited; or with a stopped model."),
    "approve": ("treadle.cli.pipelines:approve", "Answer a run that waits for an approval, or list what waits."),
    "register": ("treadle.cli.register:register", "Take over a model made elsewhere: an ONNX file, or a folder with an MLmodel file."),
    "deploy": ("treadle.cli.serving:deploy", "Start answering requests with the newest approved version."),
    "rollout": ("treadle.cli.serving:rollout", "Say how a challenger, or a new champion on trial, stands."),
    "rollback": ("treadle.cli.serving:rollback", "Take out the version that was brought in last."),
    "keys": ("treadle.cli.keys:keys", "API keys of endpoints: make, list, revoke."),
    "access": ("treadle.cli.access:access", "Who may do what in the console: people, groups, roles, tokens, sessions."),
    "materialise": ("treadle.cli.online:materialise", "Bring the online store to what is known now, of one view or of all."),
    "online": ("treadle.cli.online:online", "Say what the online store holds: of each view how many entities, and how fresh."),
    "feast": ("treadle.cli.feast:feast", "Take feature views over from Feast, or give them to it."),
    "predict": ("treadle.cli.serving:predict", "Ask for a prediction."),
    "score": ("treadle.cli.score:score", "Answer all rows of a data set or of files, resumable, with lineage."),
    "advise": ("treadle.cli.advise:advise", "Measure a model and say whether to run it in batch, real time, on a stream or a device."),
    "predictions": ("treadle.cli.predictions:predictions", "The prediction log: its length, export a range, move closed days to files, drop old."),
    "replay": ("treadle.cli.loop:replay", "Live through recorded history against the endpoint, on a fast clock."),
    "backtest": ("treadle.cli.backtest:backtest", "Compare policies of retraining on recorded history: what would this loop have been worth?"),
    "watch": ("treadle.cli.loop:watch", "Look at drift and quality now, and raise alarms."),
    "reactions": ("treadle.cli.reactions:reactions", "Say what evidence may do, what was done about which cause; answer for a person."),
    "truth": ("treadle.cli.truth:truth", "Quality by window and version once outcomes have come, and what is to be expected until then."),
    "review": ("treadle.cli.truth:review", "List the sampled predictions that wait for a person, or say the truth of one."),
    "drift": ("treadle.cli.drift:drift", "Compare two tables, windows or versions: what moved, and what is broken."),
    "alarms": ("treadle.cli.alarms:alarms", "List the alarms, show one, acknowledge, snooze or resolve it."),
    "note": ("treadle.cli.review:note", "Notes about anything: comments, questions, requests for change; write, list, settle."),
    "owner": ("treadle.cli.review:owner", "Who owns a thing, and handing it over."),
    "notices": ("treadle.cli.review:notices", "What you were told, and what waits for your answer."),
    "audit": ("treadle.cli.audit:audit", "Who did what, about which thing, when: list, export, verify."),
    "report": ("treadle.cli.look:report", "Write a page with charts of the whole loop."),
    "graph": ("treadle.cli.graph:graph", "Write a page of a run's graph with times, or of what a run would do."),
    "why": ("treadle.cli.look:why", "Tell the whole story of one prediction."),
    "runs": ("treadle.cli.pipelines:runs", "List the runs, or show one."),
    "logs": ("treadle.cli.pipelines:logs", "Print what the steps of a run printed and logged, also while they run."),
    "diff": ("treadle.cli.pipelines:diff", "Say what differs between two runs: code, parameters, data, metrics, times."),
    "models": ("treadle.cli.look:models", "List the versions of the models, or show one with its evidence."),
    "card": ("treadle.cli.evidence:card", "Print the model card of a version, or its bill of materials."),
    "waive": ("treadle.cli.evidence:waive", "Let a version pass in spite of a gate, with a person, a reason and an end on record."),
    "readiness": ("treadle.cli.evidence:readiness", "Score a model by the 28 tests of the ML Test Score, from what is recorded."),
    "status": ("treadle.cli.look:status", "Say how the project stands."),
    "features": ("treadle.cli.features:features", "List the features, what stands on what, and check that serving gives what training saw."),
    "signing": ("treadle.cli.signing:signing", "The keys that packages are signed with: make, trust, replace, revoke; sign and check."),
    "stop": ("treadle.cli.serving:stop", "Stop an endpoint, a run, or (--kill) a model."),
    "up": ("treadle.cli.up:up", "Keep endpoints, watches, the scheduler and the console running; start again what dies."),
    "console": ("treadle.cli.look:console", "Serve the console: pages where everybody sees and does what their role allows."),
    "schedule": ("treadle.cli.schedule:schedule", "List the schedules, run the scheduler, trigger or pause one."),
    "backfill": ("treadle.cli.schedule:backfill", "Run a model or pipeline for each day, or other part, of a range of dates."),
    "quarantine": ("treadle.cli.quarantine:quarantine", "Rows that broke their contract: list, correct, let in."),
    "contract": ("treadle.cli.contract:contract", "A data set's contract: show, export, import, accept a change."),
    "erase": ("treadle.cli.erase:erase", "Forget a person: out of every store, with a proof, and the models that learned from them."),
    "export": ("treadle.cli.erase:export", "Give a person their data back."),
    "datasheet": ("treadle.cli.erase:datasheet", "Write a data set's datasheet or its Croissant description."),
    "data": ("treadle.cli.data:data", "List data sets and their versions, compare two, drop old ones."),
    "reproduce": ("treadle.cli.reproduce:reproduce", "Make a version again from what is recorded of it, and compare."),
    "login": ("treadle.cli.remote:login", "Keep the token for a server, for `treadle --server URL`."),
    "logout": ("treadle.cli.remote:logout", "Forget the token for a server."),
    "compile": ("treadle.cli.stacks:compile_", "Write the project's pipeline for another engine."),
}


class Table(click.Group):
    """A group whose commands are loaded when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, 1)
            raise click.UsageError(f"There is no command {name!r}." + (f" Did you mean {close[0]!r}?" if close else " See: treadle --help"))
        return super().resolve_command(ctx, args)


@click.command(cls=Table, epilog="Example: treadle -C examples/flights run", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-C", "--project", "folder", default=".", metavar="FOLDER", help="The project folder (default: here).")
@click.option("--server", metavar="URL", help="Run the command on this server (also: TREADLE_SERVER). See: treadle login")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="treadle")
@click.pass_context
def cli(ctx: click.Context, folder: str, server: str | None, debug: bool) -> None:
    """Treadle keeps the machine-learning wheel turning."""
    del server  # `main` has read it: a command that is run elsewhere is not looked at here
    ctx.obj = {"folder": folder, "debug": debug}


def _elsewhere(given: list[str]) -> int | None:
    """The exit code of a command that a server ran, or None when it is to run here."""
    if "TREADLE_SERVER" not in os.environ and not any(word.startswith("--server") for word in given):
        return None
    from treadle.cli import remote

    url, argv = remote.wanted(given)
    return remote.run(url, argv) if url and argv and not set(argv[:1]) & set(remote.HERE) and "--help" not in argv else None


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors become one sentence and an exit code."""
    # Threads that spin while they wait for a core that another process has burn many times what they bring.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        code = _elsewhere(given)
        if code is None:
            result: Any = cli.main(args=given, prog_name="treadle", standalone_mode=False)
            code = int(result) if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as help_shown:
        help_shown.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        print("treadle: stopped. What had finished is kept; the same command goes on from there.", file=sys.stderr)
        code = 130
    except TreadleError as error:
        if debug:
            raise
        where = f" [{error.where}]" if error.where else ""
        print(f"treadle: {error.what}{where}" + (f" {error.hint}" if error.hint else ""), file=sys.stderr)
        for name, reason in getattr(error, "fields", {}).items():
            print(f"  {name}: {reason}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        code = 0
    except OSError as error:
        if debug:
            raise
        from treadle.core.errors import StorageError

        print(f"treadle: {error.strerror or error}" + (f" [{error.filename}]" if error.filename else ""), file=sys.stderr)
        code = StorageError.exit_code
    except Exception as error:
        if debug:
            raise
        print(f"treadle: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        code = 1
    if arguments is None:
        sys.exit(code)
    return code


if __name__ == "__main__":
    main()
