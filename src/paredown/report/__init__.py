"""One HTML page per run, made from its record (`run.json`) alone."""

from paredown.report.page import read_record, render, write

__all__ = ["read_record", "render", "write"]
