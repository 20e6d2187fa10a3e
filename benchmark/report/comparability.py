"""What decides whether two results may be compared, entry by entry, and a note under tables whose entries differ in it.

Facts are text: they come from the study where it fixes them, from rows where training decides, `–` where neither says.
"""

from collections.abc import Sequence

from benchmark.config import TaskConfig
from benchmark.data.catalogue import DATASETS
from benchmark.metrics.pooling import POOLINGS
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.quantities import NONE, si_prefix
from benchmark.report.table import Cell, Column, Line, Table

ROWS_SEEN, NETWORK, NORM_MOMENTUM = "rows seen (× single)", "network (multiply-adds)", "batch-norm momentum"
DECAY, PADDING, REDUCTION = "weight decay, PyTorch's unit", "crop padding", "reduction of member losses"
TEST_IMAGES, CORRUPTIONS = "test images", "corruptions"
CHECKPOINT, POOLING = "checkpoint", "pooling"


def facts_of(task: TaskResults, entry: Entry) -> dict[str, str]:
    """By what is decided; every entry of every task has the same keys."""
    return {
        ROWS_SEEN: _rows_seen(entry),
        NETWORK: _network(task.task, entry),
        NORM_MOMENTUM: _norm_momentum(task.task),
        DECAY: _decay(entry),
        PADDING: f"{entry.recipe.augmentation.crop_padding} px" if entry.recipe else NONE,
        TEST_IMAGES: _test_images(task.task),
        CORRUPTIONS: _corruptions(task.task),
        CHECKPOINT: "last epoch",
        POOLING: ", ".join([task.pooling, *(name for name in POOLINGS if name != task.pooling)]),
        REDUCTION: _reduction(entry),
    }


def comparability(task: TaskResults) -> Table | None:
    """One line per entry, facts as columns."""
    text = (
        "Results compare where these agree. Rows seen: what went through a network in training, repeated images and tiled "
        "batches counted. Weight decay adds (wd/2) Σ w² to the loss. The last epoch is the model, whatever its accuracy; "
        "the first pooling is the headline's. A sum of member losses trains each member with M times the gradient of a mean."
    )
    facts = [facts_of(task, entry) for entry in task.entries]
    columns = [Column("method", "method"), *(Column(name, name) for name in facts[0])]
    rows: list[list[Cell | str]] = [
        [entry.label, *fact.values()] for entry, fact in zip(task.entries, facts, strict=True)
    ]
    styles = [entry.style for entry in task.entries]
    return Table("comparability", "What decides comparability", text, columns, rows, [], list(styles))


def difference_note(lines: Sequence[Line]) -> list[str]:
    """One line on what differs between the entries of a table; empty where nothing that is known does."""
    facts = [facts_of(line.task, line.entry) for line in lines]
    differing = []
    for name in facts[0] if facts else ():
        values = list(dict.fromkeys(fact[name] for fact in facts if fact[name] != NONE))
        if len(values) > 1:
            differing.append(f"{name}: {_range(values)}")
    return [f"What decides comparability differs here: {'; '.join(differing)}."] if differing else []


def _range(values: Sequence[str]) -> str:
    """`1.00 to 4.00`, or the values one by one."""
    try:
        numbers = sorted(values, key=float)
    except ValueError:
        return " / ".join(values)
    return f"{numbers[0]} to {numbers[-1]}"


def _rows_seen(entry: Entry) -> str:
    seen = entry.estimate("relative/costs/rows_seen")
    return f"{seen.mean:.2f}" if seen else NONE


def _network(task: TaskConfig, entry: Entry) -> str:
    """`wideresnet28x10 (5.24 G)`: of two networks of one name, which."""
    flops = entry.estimate("costs/network_flops")
    if flops is None:
        return task.network_slug
    prefix, divisor = si_prefix(flops.mean / 2)
    return f"{task.network_slug} ({flops.mean / 2 / divisor:.3f} {prefix}".rstrip() + ")"


def _norm_momentum(task: TaskConfig) -> str:
    """PyTorch's: the share of the newest batch in the running statistics."""
    last = task.network.get("last_norm_momentum", 0.1)
    return "0.1" if last == 0.1 else f"0.1, last {last:g}"


def _decay(entry: Entry) -> str:
    """`0.0005 on all but 6,212 parameters`"""
    if entry.recipe is None:
        return NONE
    decay, undecayed = f"{entry.recipe.weight_decay:g}", entry.estimate("costs/undecayed_parameters")
    if undecayed is None or not entry.recipe.weight_decay:
        return decay
    return f"{decay} on all" + (f" but {undecayed.mean:,.0f}" if undecayed.mean else "") + " parameters"


def _test_images(task: TaskConfig) -> str:
    available = DATASETS[task.dataset].num_test
    scored = task.test_images or available
    if scored is None:
        return "all"
    return f"all {scored:,}" if scored == available else f"{scored:,} of {available:,}" if available else f"{scored:,}"


def _corruptions(task: TaskConfig) -> str:
    if task.shifted is None:
        return "none"
    return f"{len(task.shifted.kinds)} kinds × {len(task.shifted.severities)} severities, mean over cells"


def _reduction(entry: Entry) -> str:
    """As measured: how much a member's loss counts in the loss that is minimised."""
    weight = entry.estimate("costs/member_loss_weight")
    if weight is None or entry.num_members == 1:
        return NONE
    if abs(weight.mean - 1) < 0.001:
        return "sum"
    is_mean = abs(weight.mean * entry.num_members - 1) < 0.001
    return "mean" if is_mean else f"{weight.mean:.3g} × each"
