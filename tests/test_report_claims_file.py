"""The file of published claims: what stands in it, and one line where it is damaged."""

import re
from pathlib import Path

import pytest

from benchmark.data.catalogue import DATASETS
from benchmark.errors import UserError
from benchmark.report.published import (
    HERE,
    PublishedClaim,
    PublishedClaims,
    PublishedResult,
    PublishedSide,
    load_claims,
    load_published,
)
from benchmark.report.sources import source_of
from benchmark.store import Results
from benchmark.strict import read_yaml
from methods import METHODS


@pytest.fixture
def claims_file(tmp_path: Path) -> Path:
    """A copy of the published claims in a results folder of its own."""
    path = tmp_path / "results" / "published" / "claims.yaml"
    path.parent.mkdir(parents=True)
    path.write_text((HERE / "claims.yaml").read_text())
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("direction: higher", "direction: up", "claims[0].direction: input should be 'higher' or 'lower', not 'up'"),
        ("metric: accuracy", "metric: acuracy", "claims[0].metric: unknown metric 'acuracy', did you mean 'accuracy'?"),
        ("dataset: cifar10\n", "dataset: cifar11\n", "claims[0].dataset: unknown data set 'cifar11'"),
        ("    network: wideresnet28x10\n", "", "claims[0].network: is missing"),
        ("value: 0.963", "valve: 0.963", "claims[0].first: unknown key 'valve', did you mean 'value'?"),
        ("value: 0.963", "value: high", "claims[0].first.value: input should be a valid number, not 'high'"),
        (", value: 0.963", "", "claims[0]: published values come in pairs"),
        ("num_members: 4", "num_members: 0", "claims[0].first.num_members: input should be greater than or equal to 1"),
        ("direction: higher", "direction: higher\n    kind: not_worse", "a margin goes with kind: not_worse"),
        ("claims:\n", "claim:\n", "unknown key 'claim', did you mean 'claims'?"),
    ],
)
def test_a_damaged_claim_is_named_in_one_line(claims_file: Path, old: str, new: str, said: str) -> None:
    claims_file.write_text(claims_file.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        load_claims(Results(claims_file.parents[1]))
    assert str(raised.value).startswith(f"{claims_file}: ")
    assert "\n" not in str(raised.value)


def test_a_file_cut_off_anywhere_within_a_claim_is_refused(claims_file: Path) -> None:
    text = claims_file.read_text()
    second = text.index("  - id:", text.index("  - id:") + 1)
    for end in range(text.index("first:"), text.index("direction: higher") + 8, 9):
        claims_file.write_text(text[:end])
        with pytest.raises(UserError) as raised:
            load_claims(Results(claims_file.parents[1]))
        assert "\n" not in str(raised.value)
    claims_file.write_text(text[:second])
    assert len(load_claims(Results(claims_file.parents[1]))) == 1
    claims_file.write_text("")
    with pytest.raises(UserError, match="published claims are a mapping with the key claims"):
        load_claims(Results(claims_file.parents[1]))


def test_an_id_stands_once(claims_file: Path) -> None:
    text = claims_file.read_text()
    first, second = re.findall(r"id: (\S+)", text)[:2]
    claims_file.write_text(text.replace(f"id: {second}\n", f"id: {first}\n", 1))
    with pytest.raises(UserError, match=f"claims: id '{first}' stands twice"):
        load_claims(Results(claims_file.parents[1]))


def test_the_published_claims_are_many_and_about_what_the_bench_has(tmp_path: Path) -> None:
    published = PublishedClaims.model_validate(read_yaml(HERE / "claims.yaml", "")).claims
    assert len(published) >= 30
    assert {claim.dataset for claim in published} <= DATASETS.keys()
    assert {"cifar10", "cifar100", "tinyimagenet"} <= {claim.dataset for claim in published}
    assert {"accuracy", "nll", "ece", "shifted/accuracy"} <= {claim.metric for claim in published}
    assert {"better", "not_worse"} == {claim.kind for claim in published}
    used = set()
    for claim in published:
        assert source_of(claim.metric, "prob_mean")
        for side in (claim.first, claim.second):
            used.add(side.method)
            members = {"num_members": side.num_members} if side.method != "single" else {}
            METHODS[side.method](**members, **side.options)  # knows all its options
    assert used == METHODS.keys() - {
        "prune_and_tune",
        "distilled_heads",
    }  # compared by no source seen; a control of ours


def cited(results: list[PublishedResult], claim: PublishedClaim, side: PublishedSide) -> set[float]:
    """What the published numbers say of a side of a claim; options that a number doesn't state may be the side's."""
    values = set()
    for result in results:
        stated = dict(option.split("=") for option in result.options.split())
        if (
            (result.source, result.dataset) == (claim.source.name, claim.dataset)
            and (result.network, result.metric) == (claim.network, claim.metric)
            and result.where.startswith(claim.source.where)
            and result.method == side.method
            and result.num_members in (None, side.num_members)
            and all(stated.get(name, str(value)) == str(value) for name, value in side.options.items())
        ):
            values.add(result.value)
    return values


def test_every_value_of_a_claim_is_the_one_published_and_says_what_is_claimed(tmp_path: Path) -> None:
    results = load_published(Results(tmp_path))
    claims = PublishedClaims.model_validate(read_yaml(HERE / "claims.yaml", "")).claims
    with_values = [claim for claim in claims if claim.first.value is not None]
    assert len(with_values) >= 30
    for claim in with_values:
        first, second = claim.first.value, claim.second.value
        assert first in cited(results, claim, claim.first), claim.id
        assert second in cited(results, claim, claim.second), claim.id
        assert first is not None
        assert second is not None
        assert (first > second) == (claim.direction == "higher"), claim.id
