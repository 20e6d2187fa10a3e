"""Training batches: what augmentation does to pixels and labels, and that a step can be computed alone."""

from typing import Any

import numpy as np
import pytest
import torch
from data_files import random_images
from torch import Tensor

from benchmark.config import Augmentation
from benchmark.data.images import Split
from benchmark.data.stream import Stream, normalise
from benchmark.errors import UserError

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {"crop_padding": 0, "flip": False}


def numbered(count: int = 60, size: int = 12) -> Split:
    """Random images whose label is their number, so that a target tells which image it is."""
    images_NHWC, _ = random_images(count, size=size)
    return Split(torch.from_numpy(images_NHWC), torch.arange(count))


def constant(count: int = 50, size: int = 16) -> Split:
    """Image i has the value 5 i everywhere."""
    values_N = torch.arange(count, dtype=torch.uint8) * 5
    return Split(values_N[:, None, None, None].expand(-1, size, size, 3).contiguous(), torch.arange(count))


def stream(split: Split, name: str = "main", seed: int = 0, **options: Any) -> Stream:
    """Options are a stream's or an augmentation's."""
    settings: dict[str, Any] = {"batch_size": 16, "label_smoothing": 0.0, "device": CPU}
    for key in ("batch_size", "label_smoothing", "device", "channels_last", "last_batch"):
        if key in options:
            settings[key] = options.pop(key)
    return Stream(
        split,
        augmentation=Augmentation(**options),
        num_classes=len(split),
        mean_C=(0.0, 0.0, 0.0),
        std_C=(1.0, 1.0, 1.0),
        seed=seed,
        name=name,
        **settings,
    )


def pixels(x_BCHW: Tensor) -> np.ndarray:
    return (x_BCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


ALL_OPTIONS: list[dict[str, Any]] = [
    {},
    {"cutout": 5},
    {"mixup": 0.3, "label_smoothing": 0.1},
    {"cutmix": 1.0},
]


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_a_step_does_not_depend_on_what_was_asked_before(options: dict[str, Any]) -> None:
    split = numbered()
    running = stream(split, **options)
    batches = [running.batch(step) for step in range(8)]
    for step in (7, 0, 3, 6, 2):
        assert same(stream(split, **options).batch(step), batches[step])
        assert same(running.batch(step), batches[step])


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_other_names_seeds_and_epochs_give_other_batches(options: dict[str, Any]) -> None:
    split = numbered()
    batch = stream(split, **options).batch(0)
    assert same(batch, stream(split, "main", 0, **options).batch(0))
    assert not same(batch, stream(split, "member-1", **options).batch(0))
    assert not same(batch, stream(split, seed=1, **options).batch(0))
    running = stream(split, **options)
    assert not same(batch, running.batch(running.steps_per_epoch))


def test_names_seeds_and_epochs_differ_in_augmentation_too() -> None:
    image_1HWC, _ = random_images(1, size=12)
    split = Split(torch.from_numpy(image_1HWC).expand(60, -1, -1, -1).contiguous(), torch.arange(60))
    running, member, seeded = stream(split), stream(split, "member-1"), stream(split, seed=1)
    steps = [(running, 0), (running, 1), (running, running.steps_per_epoch), (member, 0), (seeded, 0)]
    batches = [each.batch(step)[0].numpy().tobytes() for each, step in steps]
    assert len(set(batches)) == len(batches)


def test_an_epoch_shows_each_image_once_and_drops_the_last_partial_batch() -> None:
    running = stream(numbered(60), batch_size=16)
    assert running.steps_per_epoch == 3
    dropped = []
    for epoch in range(4):
        seen = torch.cat([running.batch(3 * epoch + step)[1].argmax(-1) for step in range(3)]).tolist()
        assert len(set(seen)) == 48
        dropped.append(frozenset(range(60)) - set(seen))
    assert len(set(dropped)) == 4


def test_crop_and_flip_equal_an_image_by_image_search() -> None:
    """Every output is a shifted, maybe mirrored, black-bordered copy of the image its label names."""
    split = numbered(48)
    padding, size = 3, 12
    running = stream(split, batch_size=16, crop_padding=padding)
    offsets: list[int] = []
    flips_of_step = []
    for step in range(9):
        flips = []
        x_BCHW, y_BK = running.batch(step)
        for output_HWC, image in zip(pixels(x_BCHW), y_BK.argmax(-1).tolist(), strict=True):
            padded_HWC = np.zeros((size + 2 * padding, size + 2 * padding, 3), np.uint8)
            padded_HWC[padding:-padding, padding:-padding] = split.images_NHWC[image].numpy()
            matches = [
                (top, left, flip)
                for top in range(2 * padding + 1)
                for left in range(2 * padding + 1)
                for flip in (False, True)
                if np.array_equal(output_HWC, padded_HWC[top : top + size, left : left + size][:, :: -1 if flip else 1])
            ]
            assert len(matches) == 1
            offsets += [matches[0][0], matches[0][1] + 100]
            flips.append(matches[0][2])
        flips_of_step.append(tuple(flips))
    assert set(offsets) == {*range(2 * padding + 1), *range(100, 101 + 2 * padding)}
    assert 0.35 < np.mean(flips_of_step) < 0.65
    assert len(set(flips_of_step)) == 9


def test_without_augmentation_the_images_are_only_normalised() -> None:
    split = numbered()
    x_BCHW, y_BK = stream(split, **PLAIN).batch(1)
    np.testing.assert_array_equal(pixels(x_BCHW), split.images_NHWC[y_BK.argmax(-1)].numpy())


def test_turning_one_augmentation_on_changes_no_other_draw() -> None:
    split = numbered()
    x_BCHW, y_BK = stream(split).batch(2)
    cut_BCHW, cut_y_BK = stream(split, cutout=4).batch(2)
    assert torch.equal(y_BK, cut_y_BK)
    kept = cut_BCHW != 0
    assert torch.equal(x_BCHW[kept], cut_BCHW[kept])
    assert kept.float().mean() > 0.6


def test_normalise_is_the_arithmetic_of_training() -> None:
    split, mean_C, std_C = numbered(), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    running = Stream(
        split,
        augmentation=Augmentation(**PLAIN),
        label_smoothing=0,
        num_classes=60,
        mean_C=mean_C,
        std_C=std_C,
        batch_size=60,
        seed=0,
        name="main",
        device=CPU,
    )
    x_BCHW, y_BK = running.batch(0)
    x_NCHW = normalise(split.images_NHWC, mean_C, std_C)
    assert torch.equal(x_BCHW, x_NCHW[y_BK.argmax(-1)])
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean_C, std_C))
    expected = (split.images_NHWC.permute(0, 3, 1, 2).double() / 255 - mean) / std
    torch.testing.assert_close(x_NCHW.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("side", [4, 5])
def test_cutout_is_a_clipped_square_of_the_mean_colour(side: int) -> None:
    size = 16
    split = Split(torch.full((64, size, size, 3), 255, dtype=torch.uint8), torch.arange(64))
    running = stream(split, batch_size=64, cutout=side, **PLAIN)
    heights, widths = [], []
    for step in range(4):
        hidden_BHW = running.batch(step)[0].eq(0).all(1)
        for hidden_HW in hidden_BHW:
            rows, columns = hidden_HW.any(1).nonzero().flatten(), hidden_HW.any(0).nonzero().flatten()
            height, width = len(rows), len(columns)
            assert hidden_HW.sum() == height * width
            assert rows[-1] - rows[0] + 1 == height <= side
            touches_border = rows[0] == 0 or rows[-1] == size - 1
            assert height == side or touches_border
            heights.append(height)
            widths.append(width)
    for lengths in (heights, widths):
        assert min(lengths) == (side + 1) // 2  # the centre pixel lies in the image
        assert np.mean(np.array(lengths) == side) > 0.6  # centres are uniform: 13 or 12 of 16
    assert heights != widths


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_mixed_labels_weigh_the_pixels_that_show(mixing: dict[str, Any]) -> None:
    split = constant()
    running = stream(split, batch_size=50, **mixing, **PLAIN)
    values_K = torch.arange(50) * 5 / 255
    own_shares = []
    for step in range(30):
        x_BCHW, y_BK = running.batch(step)
        torch.testing.assert_close(y_BK.sum(-1), torch.ones(50))
        torch.testing.assert_close(x_BCHW.mean(dim=(1, 2, 3)), y_BK @ values_K, atol=1e-4, rtol=1e-4)
        assert int((y_BK > 0).sum(-1).max()) <= 2
        own_shares.append(float(y_BK.max(-1).values.min()))
    assert len(set(own_shares)) > 20


def test_cutmix_pastes_one_box_and_mixup_blends_everywhere() -> None:
    split = constant()
    for step in range(10):
        x_BCHW, y_BK = stream(split, batch_size=50, cutmix=1.0, **PLAIN).batch(step)
        for x_CHW, y_K in zip(x_BCHW, y_BK, strict=True):
            values, counts = (x_CHW[0] * 51).round().unique(return_counts=True)
            torch.testing.assert_close(y_K[values.long()], counts / 256)
            if len(values) == 2:
                rarer_HW = (x_CHW[0] * 51).round() == values[counts.argmin()]
                box = rarer_HW if rarer_HW.any(1).sum() * rarer_HW.any(0).sum() == rarer_HW.sum() else ~rarer_HW
                assert box.any(1).sum() * box.any(0).sum() == box.sum()
        blended_BCHW, _ = stream(split, batch_size=50, mixup=1.0, **PLAIN).batch(step)
        assert torch.equal(blended_BCHW, blended_BCHW[:, :, :1, :1].expand_as(blended_BCHW))


def test_mixup_shares_follow_the_beta_distribution() -> None:
    running = stream(constant(), batch_size=50, mixup=0.2, **PLAIN)
    shares = np.array([float(running.batch(step)[1].max(-1).values.min()) for step in range(300)])
    # max(lambda, 1 - lambda) for lambda ~ Beta(0.2, 0.2): mean 0.89 by numerical integration; uniform lambda: 0.75
    assert 0.86 < shares.mean() < 0.92


def test_label_smoothing_spreads_over_all_classes() -> None:
    _, y_BK = stream(numbered(60), label_smoothing=0.3).batch(0)
    ordered_BK = y_BK.sort(-1).values
    torch.testing.assert_close(ordered_BK[:, -1], torch.full((16,), 0.7 + 0.3 / 60))
    torch.testing.assert_close(ordered_BK[:, :-1], torch.full((16, 59), 0.3 / 60))


def test_batches_lie_in_memory_as_asked() -> None:
    x_BCHW, y_BK = stream(numbered()).batch(0)
    assert x_BCHW.shape == (16, 3, 12, 12)
    assert x_BCHW.dtype == y_BK.dtype == torch.float32
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
    plain_BCHW, _ = stream(numbered(), channels_last=False).batch(0)
    assert plain_BCHW.is_contiguous()
    assert torch.equal(x_BCHW, plain_BCHW)


def test_grey_images_are_streamed() -> None:
    split = Split(numbered().images_NHWC[..., :1].contiguous(), torch.arange(60))
    x_BCHW, y_BK = Stream(
        split,
        augmentation=Augmentation(**PLAIN),
        label_smoothing=0,
        num_classes=60,
        mean_C=(0.0,),
        std_C=(1.0,),
        batch_size=10,
        seed=0,
        name="main",
        device=CPU,
    ).batch(0)
    np.testing.assert_array_equal(pixels(x_BCHW), split.images_NHWC[y_BK.argmax(-1)].numpy())


def test_streams_of_a_split_share_its_pixels() -> None:
    split = numbered()
    first, second, other = stream(split, "a"), stream(split, "b"), stream(numbered())
    assert first._padded_NHWC is second._padded_NHWC
    assert first._padded_NHWC is not other._padded_NHWC
    assert first._padded_NHWC is not stream(split, crop_padding=2)._padded_NHWC


def test_a_batch_larger_than_the_split_names_both_numbers() -> None:
    with pytest.raises(UserError, match="batch_size 61 is more than the 60 training images"):
        stream(numbered(60), batch_size=61)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_a_gpu_sees_the_images_of_the_cpu(options: dict[str, Any]) -> None:
    split = numbered()
    x_BCHW, y_BK = stream(split, **options).batch(5)
    on_gpu_BCHW, on_gpu_BK = stream(split, device=torch.device("cuda"), **options).batch(5)
    torch.testing.assert_close(on_gpu_BCHW.cpu(), x_BCHW, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(on_gpu_BK.cpu(), y_BK, atol=1e-6, rtol=1e-6)


def test_a_kept_last_batch_has_the_images_that_are_left() -> None:
    running = stream(numbered(60), batch_size=16, last_batch="keep")
    assert running.steps_per_epoch == 4
    for epoch in range(2):
        batches = [running.batch(4 * epoch + step) for step in range(4)]
        assert [len(x_BCHW) for x_BCHW, _ in batches] == [16, 16, 16, 12]
        assert sorted(torch.cat([y_BK.argmax(-1) for _, y_BK in batches]).tolist()) == list(range(60))
