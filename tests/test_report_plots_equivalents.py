"""Deep-ensemble equivalents as bars: where they end, and what is written at them."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from simulated_study import done_row, small_study

from benchmark.config import Study, expand
from benchmark.report.gather import TaskResults, gather
from benchmark.report.plots.drawing import look
from benchmark.report.plots.equivalents import equivalent_bars
from benchmark.store import Results


def simulated(root: Path, study: Study, losses: dict[str, float]) -> TaskResults:
    """Runs whose calibrated NLL lies around the given, by label."""
    results = Results(root / "results")
    results.write_study(study)
    for run in expand(study):
        loss = losses[run.label] + (run.seed - 1) / 1000
        results.write_row(done_row(run, {"test/prob_mean/nll_calibrated": loss}))
    return gather(results, study, results.rows(study)).tasks[0]


def test_bars_end_at_the_equivalent_or_go_on_beyond_the_largest_ensemble(tmp_path: Path) -> None:
    losses = {
        "single": 0.80, "deep_ensemble-2": 0.70, "deep_ensemble-4": 0.60, "nfe-3": 0.65, "mixmo-2": 0.50, "mimo-2": 0.90
    }  # fmt: skip
    sizes = (("deep_ensemble", 2), ("deep_ensemble", 4), ("nfe", 3), ("mixmo", 2), ("mimo", 2))
    study = small_study(["single", *({"method": m, "num_members": n} for m, n in sizes)], seeds=3)
    with look():
        plot = equivalent_bars(simulated(tmp_path, study, losses))
    assert plot is not None
    [axes] = plot.figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    ends = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    bars = dict(zip(labels, ends, strict=True))
    assert bars["single"] == 1
    assert bars["deep_ensemble-2"] == 2
    assert bars["nfe-3"] == pytest.approx(3, abs=0.01)
    assert bars["mixmo-2"] == 4
    assert bars["mimo-2"] < 1
    said = [text.get_text() for text in axes.texts if text.get_text()]
    assert said == ["1.0", "2.0", "4.0", "3.0", "> 4", "< 1"]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in dashed] == [4.0]


def test_without_a_deep_ensemble_there_are_no_bars(tmp_path: Path) -> None:
    study = small_study(["single", {"method": "mixmo", "num_members": 2}], seeds=2)
    with look():
        assert equivalent_bars(simulated(tmp_path, study, {"single": 0.8, "mixmo-2": 0.7})) is None
