"""Training state on disk: written whole or not at all, checked when read, never able to run code.

A file is 8 bytes of magic, the SHA-256 of the rest, and what torch.save wrote; it is read with `weights_only`.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from benchmark.store import set_aside, write_atomically

MAGIC = b"tutti\0\0\1"
DIGEST_BYTES = 32


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).digest()
    write_atomically(path, lambda file: file.writelines([MAGIC, digest, payload]))


def load(path: Path, *, key: str, device: torch.device) -> dict[str, Any] | None:
    """The state saved for the run `key`; None where there is none or where the file is damaged or another run's.

    Such a file is set aside with one line on standard error.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + DIGEST_BYTES
    payload = memoryview(content)[start:]
    if content[: len(MAGIC)] != MAGIC or hashlib.sha256(payload).digest() != content[len(MAGIC) : start]:
        set_aside(path, "is truncated or damaged")
        return None
    try:
        state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        set_aside(path, "holds no training state")
        return None
    if not isinstance(state, dict) or state.get("key") != key:
        set_aside(path, "belongs to another run")
        return None
    return state


def fits(path: Path, state: dict[str, Any], like: dict[str, Any]) -> bool:
    """Whether a state has the parts of another, with the same texts, shapes and kinds of numbers; else it is set aside.

    An empty table or list in `like` stands for any.
    """
    if _is_like(state, like):
        return True
    set_aside(path, "is not what this version saves")
    return False


def _is_like(part: Any, like: Any) -> bool:
    if isinstance(like, torch.Tensor):
        return isinstance(part, torch.Tensor) and (part.shape, part.dtype) == (like.shape, like.dtype)
    if isinstance(like, dict) and like:
        return isinstance(part, dict) and part.keys() == like.keys() and all(_is_like(part[k], like[k]) for k in like)
    if isinstance(like, list) and like:
        return isinstance(part, list) and len(part) == len(like) and all(map(_is_like, part, like))
    if isinstance(like, str):
        return bool(part == like)
    return type(part) in (int, float) if type(like) in (int, float) else isinstance(part, type(like))
