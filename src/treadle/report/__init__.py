"""The report: the whole loop of one model as data (`collect`) and as one page without any other file (`write_report`)."""

from treadle.report.collect import collect, recorded
from treadle.report.page import render, write_report

__all__ = ["collect", "recorded", "render", "write_report"]
