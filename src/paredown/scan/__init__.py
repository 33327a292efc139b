"""The sensitivity scan: what every layer loses, and gives, by every method at several levels."""

from paredown.scan.methods import METHODS
from paredown.scan.result import MethodSkip, Row, Scan
from paredown.scan.scan import scan as scan_sensitivity
from paredown.scan.settings import check_settings

__all__ = ["METHODS", "MethodSkip", "Row", "Scan", "check_settings", "scan_sensitivity"]
