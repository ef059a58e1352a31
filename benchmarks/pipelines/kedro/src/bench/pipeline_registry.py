"""The four programs. P6 hands on in memory, which is Kedro's default; the others have their data sets in conf/base/catalog.yml."""

import os

from kedro.pipeline import Pipeline, node

from bench import nodes

STEPS = int(os.environ.get("STEPS", "20"))


def register_pipelines() -> dict[str, Pipeline]:
    chain = [
        node(nodes.last if i == STEPS else nodes.add, f"value_{i - 1}" if i > 1 else "params:start", f"value_{i}", name=f"add_{i}")
        for i in range(1, STEPS + 1)
    ]
    table = [
        node(nodes.load_table, "source_table", "loaded_table"),
        node(nodes.widen, "loaded_table", "widened_table"),
        node(nodes.keep, "widened_table", "kept_table"),
        node(nodes.summarise, "kept_table", "summary_table"),
    ]
    matrix = [
        node(nodes.load, "input_text", "raw_kept"),
        node(nodes.clean, ["raw_kept", "params:factor"], "rows_kept"),
        node(nodes.total, "rows_kept", "total_kept"),
    ]
    five = [
        node(nodes.one, "params:start", "one_kept"),
        node(nodes.two, "one_kept", "two_kept"),
        node(nodes.three, "two_kept", "three_kept"),
        node(nodes.four, "three_kept", "four_kept"),
        node(nodes.five, "four_kept", "five_kept"),
    ]
    made = {"p6": Pipeline(chain), "p6b": Pipeline(table), "p6c": Pipeline(matrix), "p6d": Pipeline(five)}
    return {**made, "__default__": made["p6"]}
