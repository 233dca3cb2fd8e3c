"""One function a picture; each returns a matplotlib figure that knows its alternative text."""

from __future__ import annotations

from dslearn._extras import require

require("matplotlib", "course")

from dslearn.plots.bars import bars_with_spread  # noqa: E402 - only after the extra is known to be there
from dslearn.plots.curves import (  # noqa: E402
    cost_against_length,
    crossover,
    learning_curves,
    log_slope,
    recall_by_distance,
)
from dslearn.plots.figure import DescribedFigure, figure_with_alt  # noqa: E402
from dslearn.plots.history import Event, timeline  # noqa: E402
from dslearn.plots.loads import expert_loads, placed_experts, who_takes_what  # noqa: E402
from dslearn.plots.sparsity import (  # noqa: E402
    TreeLevel,
    attention_mask,
    selected_blocks_over_text,
    tree_descent,
)

__all__ = [
    "DescribedFigure",
    "Event",
    "TreeLevel",
    "attention_mask",
    "bars_with_spread",
    "cost_against_length",
    "crossover",
    "expert_loads",
    "figure_with_alt",
    "learning_curves",
    "log_slope",
    "placed_experts",
    "recall_by_distance",
    "selected_blocks_over_text",
    "timeline",
    "tree_descent",
    "who_takes_what",
]
