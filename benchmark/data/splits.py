"""Which images go where: decided by the images themselves, not by their order in a file. No torch.

Every image gets a digest of its pixels and label, and a subset takes the first of each class in the order of digests.
So a task has the same split on every machine, from every file layout and for every seed of a run; a smaller subset
lies inside a larger one; and the images stand in an order that has nothing to do with classes.
"""

import hashlib

import numpy as np

SPLIT_SEED = 0
"""Keys the digests: another number is another split of every data set."""


def content_order(images_NHWC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """order_N (int64) that sorts the images by digest; equal images with equal labels keep their order."""
    key = str(SPLIT_SEED).encode()
    flat_NP = np.ascontiguousarray(images_NHWC).reshape(len(images_NHWC), -1)
    label_bytes = np.asarray(labels_N, dtype="<i8")
    digests = [
        hashlib.blake2b(image.tobytes() + label.tobytes(), digest_size=16, key=key).digest()
        for image, label in zip(flat_NP, label_bytes, strict=True)
    ]
    return np.asarray(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def stratified(labels_N: np.ndarray, count: int) -> np.ndarray:
    """mask_N (bool) of `count` images, each class in its share: the first of each class.

    Shares are rounded by largest remainder, ties to the lower class.
    """
    classes, class_N, sizes_K = np.unique(labels_N, return_inverse=True, return_counts=True)
    quotas_K = sizes_K * (count / max(len(labels_N), 1))
    taken_K = np.floor(quotas_K + 1e-9).astype(np.int64)
    largest = np.argsort(-np.round(quotas_K - taken_K, 9), kind="stable")
    taken_K[largest[: count - int(taken_K.sum())]] += 1
    mask_N = np.zeros(len(labels_N), dtype=bool)
    for index in range(len(classes)):
        mask_N[np.flatnonzero(class_N == index)[: taken_K[index]]] = True
    return mask_N
