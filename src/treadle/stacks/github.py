"""A GitHub Actions workflow: on every push the model is made and judged, and a refusal by the gates fails the check."""

from __future__ import annotations

import shlex

from treadle.core.errors import UsageError
from treadle.stacks.grammar import MARK, checked_name, checked_path, checked_requirement

WORKFLOW = """\
# {mark} github`: compile again instead of editing.
name: treadle {model}
on:
  push: {{}}
permissions:
  contents: read
jobs:
  run:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - name: Install
        run: |
          python -m pip install {install}
          if [ -f {requirements} ]; then python -m pip install -r {requirements}; fi
      - name: Make and judge {model}
        run: |
          code=0
          treadle -C {folder} run {model} --json > "$RUNNER_TEMP/treadle-run.json" || code=$?
          python - "$RUNNER_TEMP/treadle-run.json" "$code" >> "$GITHUB_STEP_SUMMARY" <<'SUMMARY'
{summary}
          SUMMARY
          exit "$code"
"""

SUMMARY = '''\
import html, json, sys

def line(text):
    return html.escape(" ".join(str(text).split()), quote=False)

print("## {model}")
try:
    with open(sys.argv[1], encoding="utf-8") as file:
        made = json.load(file)
except ValueError:
    print(f"The run ended with code {{sys.argv[2]}} before there was a verdict; the log says why.")
else:
    print(f"Version {{line(made['version'])}}: " + ("may go to production." if made["verdict"]["passed"] else "**refused**."))
    print()
    for finding in made["verdict"]["findings"]:
        print(f"- {{'passed' if finding['passed'] else '**FAILED**'}} {{line(finding['gate'])}}: {{line(finding['reason'])}}")
'''


def compile_github(project_name: str, model_name: str, folder: str, install: str) -> str:
    """The text of a workflow file.

    Args:
        folder: the project folder, relative to the repository; '.' for its root.
        install: what to install, for example 'treadle[train,serve]==0.1.0'; a requirements.txt in the folder is installed too.
    Raises: UsageError for a name, path or requirement outside the grammar.
    """
    checked_name(project_name, "project name")
    model, place = checked_name(model_name, "model name"), checked_path(folder, absolute=False)
    if ".." in place.split("/"):
        raise UsageError(f"{folder!r} leaves the repository.", hint="Name a folder inside it.")
    summary = SUMMARY.format(model=model).rstrip().replace("\n", "\n" + 10 * " ").replace(10 * " " + "\n", "\n")
    return WORKFLOW.format(
        mark=MARK, model=model, install=shlex.quote(checked_requirement(install)), folder=shlex.quote(place),
        requirements=shlex.quote(f"{place}/requirements.txt"), summary=10 * " " + summary,
    )  # fmt: skip
