"""Claims, typed or published, on simulated runs: reproduced, contradicted, undecided, not run."""

import re
from pathlib import Path
from typing import Any

import pytest
from simulated_study import done_row, small_study, small_task

from benchmark.config import Study, TaskConfig, expand
from benchmark.errors import UserError
from benchmark.report.claims import Claim, Side, claims_table, parse_claim
from benchmark.report.gather import Gathered, gather
from benchmark.report.page import tally
from benchmark.report.planned import would_run
from benchmark.report.published import load_claims
from benchmark.report.table import Cell, Table
from benchmark.store import Results

WRN = {"name": "wide_resnet", "depth": 28, "width": 10}
CIFAR100 = TaskConfig(dataset="cifar100", network=WRN)
ENTRIES: list[str | dict[str, Any]] = [
    "single",
    {"method": "nfe", "num_members": 3},
    {"method": "deep_ensemble", "num_members": 3},
]


def simulated(root: Path, accuracies: dict[str, list[float]], study: Study | None = None) -> Gathered:
    """A study whose runs have given accuracies, by label and seed; further seeds are missing."""
    study = study or small_study(ENTRIES, seeds=4)
    results = Results(root / "results")
    results.write_study(study)
    for run in expand(study):
        values = accuracies.get(run.label, [])
        if run.seed < len(values):
            value = values[run.seed]
            results.write_row(done_row(run, {"test/prob_mean/accuracy": value, "test/prob_mean/nll": 1 - value}))
    return gather(results, study, results.rows(study))


def around(mean: float, step: float = 0.001) -> list[float]:
    return [mean + step * place for place in (-1.5, -0.5, 0.5, 1.5)]


def verdicts(table: Table) -> list[str]:
    place = [column.source for column in table.columns].index("verdict")
    return [str(row[place]) for row in table.rows]


def verdict(gathered: Gathered, claim: str) -> str:
    return verdicts(claims_table(gathered, [parse_claim(claim, gathered)]))[0]


def test_a_clear_difference_reproduces_a_claim_and_contradicts_its_opposite(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80), "nfe-3": around(0.85)})
    assert verdict(gathered, "nfe-3 > single : accuracy") == "reproduced"
    assert verdict(gathered, "nfe-3 < single : accuracy") == "contradicted"
    assert verdict(gathered, "nfe-3 < single : nll") == "reproduced"
    assert verdict(gathered, "single > nfe-3 : accuracy") == "contradicted"


def test_by_asks_for_a_difference_of_at_least_that_much(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80), "nfe-3": around(0.85)})
    assert verdict(gathered, "nfe-3 > single : accuracy by 0.04") == "reproduced"
    assert verdict(gathered, "nfe-3 > single : accuracy by 0.06") == "contradicted"
    assert verdict(gathered, "nfe-3 > single : accuracy by 0.05").startswith("undecided")
    assert verdict(gathered, "nfe-3 < single : nll by 0.04") == "reproduced"


def test_as_good_but_for_a_margin_needs_the_whole_interval_above_it(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.800), "nfe-3": around(0.797)})
    single, nfe = Side("single"), Side("nfe", 3)
    claims = [Claim(nfe, single, "accuracy", True, least) for least in (-0.01, -0.003, -0.0001)]
    claims.append(Claim(nfe, single, "nll", False, -0.01))
    assert [text.partition(":")[0] for text in verdicts(claims_table(gathered, claims))] == [
        *("reproduced", "undecided", "undecided", "reproduced")
    ]
    assert str(claims[0]) == "nfe-3 not below single by 0.01 : accuracy"
    assert str(claims[3]) == "nfe-3 not above single by 0.01 : nll"
    gathered = simulated(tmp_path / "worse", {"single": around(0.80), "nfe-3": around(0.75)})
    assert verdicts(claims_table(gathered, claims))[0] == "contradicted"


def test_an_undecided_claim_says_how_many_runs_would_decide_it(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80, 0.01), "nfe-3": around(0.81, 0.01)})
    said = verdict(gathered, "nfe-3 > single : accuracy")
    found = re.fullmatch(r"undecided: about (\d+) runs of each would decide it", said)
    assert found is not None, said
    assert int(found[1]) > 4


def test_one_run_decides_nothing(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80), "nfe-3": [0.9]})
    assert verdict(gathered, "nfe-3 > single : accuracy") == "undecided: one run of nfe-3, two of each are the least"


def test_what_was_not_run_is_said_to_be_missing(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80)})
    said = verdict(gathered, "nfe-3 > single : accuracy")
    assert said == "not run: no finished run of nfe-3; python -m benchmark.sweep simulated makes them"
    gathered = simulated(tmp_path / "more", {"single": around(0.80), "nfe-3": around(0.85)})
    said = verdict(gathered, "nfe-3 > single : shifted/accuracy")
    assert said == "not run: the runs have no shifted/prob_mean/accuracy"


def test_a_claim_that_was_not_run_names_the_packaged_study_that_would_run_it(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80)})
    where: dict[str, Any] = {"dataset": "cifar100", "network": "wideresnet28x10"}
    cut = Side("mixmo", 2, {"mixing": "patch"})
    claims = [
        Claim(Side("nfe", 3), Side("deep_ensemble", 3), "accuracy", True, **where),
        Claim(cut, Side("mimo", 2), "shifted/accuracy", True, **where),
        Claim(cut, Side("mimo", 3), "accuracy", True, **where),
        Claim(cut, Side("mimo", 5), "accuracy", True, **where),
        Claim(Side("mixmo", 2, {"mixing": "none"}), Side("mimo", 2), "accuracy", True, **where),
        Claim(Side("nfe", 3), Side("single"), "accuracy", True, dataset="cifar10", network="wideresnet28x10"),
    ]
    would = "not run: python -m benchmark.sweep cifar100-wrn28x10 would run it"
    none = "not run: no packaged study holds"
    assert verdicts(claims_table(gathered, claims)) == [
        would,
        would,
        would.replace("cifar100", "published/claims-cifar100"),
        f"{none} mixmo-2 mixing=patch and mimo-5 on cifar100, wideresnet28x10",
        f"{none} mixmo-2 mixing=none and mimo-2 on cifar100, wideresnet28x10",
        f"{none} nfe-3 and single on cifar10, wideresnet28x10",
    ]


def test_every_published_claim_has_a_packaged_study_that_would_run_it(tmp_path: Path) -> None:
    claims = load_claims(Results(tmp_path))
    assert [str(claim) for claim in claims if would_run(claim) is None] == []


def test_a_published_claim_is_tested_on_its_data_set_and_network_alone(tmp_path: Path) -> None:
    tasks = [CIFAR100, CIFAR100.model_copy(update={"train_images": 500}), small_task()]
    nfe = {"method": "nfe", "num_members": 3, "pruning": "snip", "distillation": True}
    study = small_study(["single", nfe, {"method": "deep_ensemble", "num_members": 3}], seeds=4, tasks=tasks)
    accuracies = {"single": around(0.80), "nfe-3": around(0.84), "deep_ensemble-3": around(0.83)}
    gathered = simulated(tmp_path, accuracies, study)
    claims = load_claims(gathered.tasks[0].results)
    table = claims_table(gathered, claims)
    assert len(table.rows) == len(claims)
    index = [row[0] for row in table.rows].index("nfe-3 > deep_ensemble-3 : accuracy")
    row = table.rows[index]
    assert row[1:3] == ["cifar100, wideresnet28x10", "83.5 > 83.0 %"]
    assert verdicts(table)[index] == "reproduced"
    assert isinstance(row[4], Cell)
    assert row[4].text.startswith("+1.0 ± ")
    assert row[4].text.endswith(" points (4/4, 4/4)")
    assert row[-1] == "seeds 0, 1, 2, 3 against 0, 1, 2, 3"
    counts = {word: count for _, _, word, count in tally(table)}
    assert counts["reproduced"] == 1
    assert (
        counts["contradicted"] == 2
    )  # simulated NFE takes more FLOPs than one network, executed and of nonzero weights
    assert sum(counts.values()) == len(claims)


def test_a_claim_is_tested_on_every_entry_that_it_may_mean(tmp_path: Path) -> None:
    cut, linear = ({"method": "mixmo", "num_members": 2, "mixing": mixing} for mixing in ("patch", "linear"))
    study = small_study(["single", cut, linear], seeds=4)
    accuracies = {"single": around(0.80), "mixmo-2 mixing=patch": around(0.85), "mixmo-2 mixing=linear": around(0.75)}
    gathered = simulated(tmp_path, accuracies, study)
    table = claims_table(gathered, [Claim(Side("mixmo", 2), Side("single"), "accuracy", True)])
    assert [row[0] for row in table.rows] == [
        f"mixmo-2 mixing={mixing} > single : accuracy" for mixing in ("patch", "linear")
    ]
    assert verdicts(table) == ["reproduced", "contradicted"]
    table = claims_table(gathered, [Claim(Side("mixmo", 2, {"mixing": "patch"}), Side("single"), "accuracy", True)])
    assert verdicts(table) == ["reproduced"]


def test_a_typed_claim_is_tested_on_every_task_or_on_one(tmp_path: Path) -> None:
    study = small_study(ENTRIES, seeds=4, tasks=[small_task(), small_task(train_images=500)])
    gathered = simulated(tmp_path, {"single": around(0.80), "nfe-3": around(0.85)}, study)
    claim = parse_claim("nfe > single : accuracy", gathered)
    assert [row[1] for row in claims_table(gathered, [claim]).rows] == [task.name for task in gathered.tasks]
    name = gathered.tasks[1].name
    on_one = parse_claim(f"nfe-3 > single : accuracy by 0.01 on {name}", gathered)
    assert [row[1] for row in claims_table(gathered, [on_one]).rows] == [name]


def test_many_claims_are_corrected_for_their_number(tmp_path: Path) -> None:
    gathered = simulated(tmp_path, {"single": around(0.80, 0.004), "nfe-3": around(0.815, 0.004)})
    claim = parse_claim("nfe-3 > single : accuracy", gathered)
    assert verdicts(claims_table(gathered, [claim])) == ["reproduced"]
    said = verdicts(claims_table(gathered, [claim] * 20))[0]
    found = re.fullmatch(r"undecided: about (\d+) runs of each would decide it", said)
    assert found is not None, said
    assert int(found[1]) > 4  # four decide a single claim


def test_an_entry_that_deviates_from_the_recipe_stands_for_no_published_claim(tmp_path: Path) -> None:
    entries = [*ENTRIES, {"method": "nfe", "num_members": 3, "recipe": {"epochs": 20}}]
    study = small_study(entries, seeds=4, tasks=[CIFAR100])
    labels = list(dict.fromkeys(run.label for run in expand(study)))
    gathered = simulated(tmp_path, {label: around(0.8) for label in labels}, study)
    deviating = next(entry for entry in gathered.tasks[0].entries if entry.deviations)
    assert not Side("nfe", 3).fits(deviating)
    typed = parse_claim(f"{deviating.label} > single : accuracy", gathered)
    assert typed.first.fits(deviating)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("nfe-3 beats single", "write it as A > B : metric"),
        ("nfe-3 > single", "write it as A > B : metric"),
        ("nfe-3 > single > deep_ensemble-3 : accuracy", "write it as A > B : metric"),
        ("", "write it as A > B : metric"),
        ("nfe-4 > single : accuracy", "unknown entry 'nfe-4', did you mean 'nfe-3'?"),
        ("nfe-3 > nfe : accuracy", "compares nfe-3 with itself"),
        ("nfe-3 > single : acuracy", "unknown metric 'acuracy', did you mean 'accuracy'?"),
        ("nfe-3 > single : accuracy by much", "by takes a number in the row's units, such as 0.02, not 'much'"),
        ("nfe-3 > single : accuracy by nan", "by takes a number"),
        ("nfe-3 > single : accuracy on mars", "unknown task 'mars'"),
    ],
)
def test_a_claim_that_is_none_gets_one_line(tmp_path: Path, typed: str, said: str) -> None:
    gathered = simulated(tmp_path, {"single": [0.8]})
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        parse_claim(typed, gathered)
    assert "\n" not in str(raised.value)
    assert repr(typed) in str(raised.value)
