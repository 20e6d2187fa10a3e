"""Two small sets that come with scikit-learn, for a first try and for tests without a network. No torch."""

from collections.abc import Callable

import numpy as np

from benchmark.data.readers import Decoded
from benchmark.data.splits import content_order, stratified

NUM_TEST = 500
PATCH = 32


def read_digits(part: str) -> Decoded:
    """The 1,797 handwritten digits of 8x8 pixels (UCI Optical Recognition of Handwritten Digits, test part).

    Values 0 to 16 become round(v * 255 / 16). 500 test images, stratified; the other 1,297 are for training.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images_NHWC = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels_N = digits.target.astype(np.int64)
    order_N = content_order(images_NHWC, labels_N)
    is_test_N = stratified(labels_N[order_N], NUM_TEST)
    chosen = np.sort(order_N[is_test_N if part == "test" else ~is_test_N])
    return Decoded(images_NHWC[chosen], labels_N[chosen], tuple(str(digit) for digit in range(10)))


def read_photos(part: str) -> Decoded:
    """500 patches of 32x32 pixels at fixed random places of scikit-learn's two photographs, 250 from each.

    Real image content of no class that any other set has, without a download. Label: which photograph.
    """
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images()
    names = tuple(str(name).rpartition("/")[2].partition(".")[0] for name in photographs.filenames)
    if part == "train":
        return Decoded(np.zeros((0, PATCH, PATCH, 3), np.uint8), np.zeros(0, np.int64), names)
    rng = np.random.default_rng(0)
    per_photograph = NUM_TEST // len(names)
    patches = []
    for image_HWC in photographs.images:
        num_tops, num_lefts = image_HWC.shape[0] - PATCH + 1, image_HWC.shape[1] - PATCH + 1
        for place in rng.choice(num_tops * num_lefts, per_photograph, replace=False):
            top, left = divmod(int(place), num_lefts)
            patches.append(image_HWC[top : top + PATCH, left : left + PATCH])
    labels_N = np.repeat(np.arange(len(names), dtype=np.int64), per_photograph)
    return Decoded(np.stack(patches).astype(np.uint8), labels_N, names)


READERS: dict[str, Callable[[str], Decoded]] = {"digits": read_digits, "photos": read_photos}
