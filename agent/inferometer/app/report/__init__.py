"""``inferometer report``: money, tokens, joules and goodput out of the ledger's hourly rows."""

from inferometer.app.report.compose import Question, answer

__all__ = ["Question", "answer"]
