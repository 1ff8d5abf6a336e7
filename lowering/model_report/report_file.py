"""A report as JSON: what `--json` prints, what lies beside the page, and what the page holds."""

from __future__ import annotations

import json

from pefslc.artifacts.sidecar import JsonObject
from pefslc.model_report.comparison import Comparison
from pefslc.model_report.model import ModelReport

__all__ = ["report_bytes", "report_content"]


def report_content(report: ModelReport, against: Comparison | None = None) -> JsonObject:
    """Every number of a report, and what changed since another one; null without one."""
    return {**report.to_json(), "against": None if against is None else against.to_json()}


def report_bytes(report: ModelReport, against: Comparison | None = None) -> bytes:
    """The content of a file: a key a line, so that a tool for texts shows which of them changed."""
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
        for key, value in report_content(report, against).items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
