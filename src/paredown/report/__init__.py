"""One HTML page per run, made from its record (`run.json`) alone."""

from paredown.report.page import read_record, render, write
from paredown.report.scan_page import render_scan, write_scan

__all__ = ["read_record", "render", "render_scan", "write", "write_scan"]
