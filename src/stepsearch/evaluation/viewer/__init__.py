"""`report.html`: the figures of an evaluation and every trajectory behind them, in one page that opens from disk."""

from stepsearch.evaluation.viewer.report_page import write_report

__all__ = ["write_report"]
