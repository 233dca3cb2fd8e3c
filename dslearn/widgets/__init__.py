"""Explorers: widgets that compute in the page, and so live in JupyterLab, in one's own notebook and in the book."""

from __future__ import annotations

from dslearn._extras import require

require("anywidget", "course")

from dslearn.widgets.base import Explorer  # noqa: E402 - only after the extra is known to be there
from dslearn.widgets.expert_load import ExpertLoadExplorer, SimulatedBalance  # noqa: E402
from dslearn.widgets.progress import ProgressBoard  # noqa: E402
from dslearn.widgets.sparse_mask import Pattern, SparseMaskExplorer  # noqa: E402

__all__ = ["ExpertLoadExplorer", "Explorer", "Pattern", "ProgressBoard", "SimulatedBalance", "SparseMaskExplorer"]
