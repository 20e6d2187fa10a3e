"""Corrupted images: they degrade, they are reproducible, and the simple ones do what their name says."""

import numpy as np
import pytest

from benchmark.data.catalogue import CORRUPTION_KINDS
from benchmark.data.corruptions import corrupt
from benchmark.data.embedded import read_digits, read_photos
from benchmark.errors import UserError

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return read_photos("test").images_NHWC[::5]


def distance(corrupted_NHWC: np.ndarray, images_NHWC: np.ndarray) -> float:
    return float(np.abs(corrupted_NHWC.astype(int) - images_NHWC).mean())


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_severity_5_is_further_from_the_image_than_severity_1(kind: str, photos: np.ndarray) -> None:
    distances = [distance(corrupt(photos, kind, severity, 0), photos) for severity in (1, 5)]
    assert 0.3 < distances[0] < distances[1] / 1.1


@pytest.mark.parametrize("kind", sorted(set(CORRUPTION_KINDS) - {"saturate"}))
def test_severities_of_one_kind_increase(kind: str, photos: np.ndarray) -> None:
    distances = [distance(corrupt(photos, kind, severity, 0), photos) for severity in range(1, 6)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_the_same_seed_gives_the_same_pixels_and_only_noise_depends_on_it(kind: str, photos: np.ndarray) -> None:
    first = corrupt(photos, kind, 3, 0)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, corrupt(photos.copy(), kind, 3, 0))
    assert (not np.array_equal(first, corrupt(photos, kind, 3, 1))) == (kind in RANDOM)


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_small_grey_images_degrade_too(kind: str) -> None:
    digits_NHWC = read_digits("test").images_NHWC[:100]
    corrupted_NHWC = corrupt(digits_NHWC, kind, 5, 0)
    assert corrupted_NHWC.shape == digits_NHWC.shape
    assert distance(corrupted_NHWC, digits_NHWC) > 1


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_images_may_be_oblong(kind: str) -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), dtype=np.uint8)
    assert corrupt(images_NHWC, kind, 2, 0).shape == images_NHWC.shape


def test_pieces_make_no_difference_where_nothing_is_random(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corrupt(photos, "defocus_blur", 5, 0)
    monkeypatch.setattr("benchmark.data.corruptions._PIECE", 7)
    np.testing.assert_array_equal(corrupt(photos, "defocus_blur", 5, 0), whole)


def test_noise_has_the_published_scale() -> None:
    grey_NHWC = np.full((20, 32, 32, 3), 128, np.uint8)
    for severity, scale in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        assert corrupt(grey_NHWC, "gaussian_noise", severity, 0).std() / 255 == pytest.approx(scale, rel=0.03)
    for severity, scale in enumerate((0.06, 0.1, 0.12, 0.16, 0.2), start=1):
        assert corrupt(grey_NHWC, "speckle_noise", severity, 0).std() / 128 == pytest.approx(scale, rel=0.03)
    for severity, photons in enumerate((500, 250, 100, 75, 50), start=1):
        scale = (128 / 255 / photons) ** 0.5  # of a Poisson variable
        assert corrupt(grey_NHWC, "shot_noise", severity, 0).std() / 255 == pytest.approx(scale, rel=0.03)


def test_impulse_noise_is_half_salt_half_pepper() -> None:
    corrupted_NHWC = corrupt(np.full((100, 32, 32, 3), 128, np.uint8), "impulse_noise", 5, 0)
    assert (corrupted_NHWC == 255).mean() == pytest.approx(0.035, rel=0.05)
    assert (corrupted_NHWC == 0).mean() == pytest.approx(0.035, rel=0.05)
    assert ((corrupted_NHWC == 128) | (corrupted_NHWC == 0) | (corrupted_NHWC == 255)).all()


def test_blurs_keep_constant_images_and_spread_a_point() -> None:
    constant_NHWC = np.full((1, 16, 16, 3), 200, np.uint8)
    point_NHWC = np.zeros((1, 17, 17, 1), np.uint8)
    point_NHWC[0, 8, 8] = 255
    for kind in ("gaussian_blur", "defocus_blur"):
        assert distance(corrupt(constant_NHWC, kind, 5, 0), constant_NHWC) == 0
        blurred_HW = corrupt(point_NHWC, kind, 5, 0)[0, ..., 0].astype(int)
        np.testing.assert_array_equal(blurred_HW, blurred_HW.T)
        np.testing.assert_array_equal(blurred_HW, blurred_HW[::-1])
    # radius 1.5 covers the 3x3 pixels around the point
    assert np.argwhere(blurred_HW > 20).min() == 7
    assert (blurred_HW[7:10, 7:10] == 28).all()


def test_contrast_shrinks_values_towards_the_mean(photos: np.ndarray) -> None:
    corrupted_NHWC = corrupt(photos, "contrast", 4, 0)
    ratio = corrupted_NHWC.std(axis=(1, 2)).mean() / photos.std(axis=(1, 2)).mean()
    assert ratio == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(corrupted_NHWC.mean(axis=(1, 2)), photos.mean(axis=(1, 2)), atol=1)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_brightness_and_saturate_equal_a_detour_through_hsv(severity: int) -> None:
    import colorsys

    images_NHWC = np.random.default_rng(1).integers(0, 256, (1, 12, 12, 3), dtype=np.uint8)
    images_NHWC[0, 0, :4] = [[0, 0, 0], [9, 9, 9], [255, 0, 0], [255, 255, 255]]
    shift = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    factor, offset = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    brighter, saturated = np.empty(images_NHWC.shape), np.empty(images_NHWC.shape)
    for place in np.ndindex(images_NHWC.shape[:3]):
        h, s, v = colorsys.rgb_to_hsv(*(images_NHWC[place] / 255))
        brighter[place] = colorsys.hsv_to_rgb(h, s, min(v + shift, 1))
        saturated[place] = colorsys.hsv_to_rgb(h, min(s * factor + offset, 1), v)
    for kind, expected in (("brightness", brighter), ("saturate", saturated)):
        difference = corrupt(images_NHWC, kind, severity, 0) - expected * 255
        assert difference.min() >= -1
        assert difference.max() <= 0.01  # values are cut, not rounded


def test_pixelate_leaves_fewer_distinct_pixels() -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    pixels = corrupt(images_NHWC, "pixelate", 5, 0).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) < 1024


@pytest.mark.parametrize(
    ("shape", "kind", "severity", "message"),
    [
        ((2, 32, 32, 3), "gausian_noise", 1, "did you mean 'gaussian_noise'"),
        ((2, 32, 32, 3), "contrast", 6, "severities are 1 to 5, not 6"),
        ((2, 32, 32, 3), "contrast", 0, "severities are 1 to 5, not 0"),
        ((2, 7, 7, 3), "contrast", 1, "8 pixels or more"),
        ((2, 32, 32, 4), "contrast", 1, "1 or 3 channels"),
    ],
)
def test_wrong_arguments_are_one_line(shape: tuple[int, ...], kind: str, severity: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        corrupt(np.zeros(shape, np.uint8), kind, severity, 0)
