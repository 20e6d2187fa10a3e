"""Decode once: one checked safetensors file per part of a data set, below `<cache_dir>/decoded/`.

A cached file is used only if its contents have the sha256 it names and its source files are unchanged. Anything else
is set aside as `*.damaged` or replaced, with one line on standard error, and decoded again: never used, never fatal.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmark.data.readers import Decoded
from benchmark.data.sources import Location, Source
from benchmark.store import write_atomically
from benchmark.temporary import clear

FORMAT_VERSION = 1


class _DamagedError(Exception):
    """A cached file that is not what its name says."""


class _OutdatedError(Exception):
    """A sound cached file whose source files have changed since."""


def fetch(source: Source, location: Location) -> Decoded:
    """The images of a source: from the cache where that is sound, else decoded and cached."""
    if not source.files:  # comes with a library, is there in milliseconds
        return source.read()
    fingerprint = source.fingerprint()
    path = cached_file(source, location)
    try:
        return _load(path, source.name, fingerprint)
    except FileNotFoundError:
        pass
    except _OutdatedError:
        _say(f"{source.origin} has changed, decoding {source.name} again")
    except (_DamagedError, OSError) as error:
        _set_aside(path, error)
    decoded = source.read()
    try:
        _store(path, source.name, fingerprint, decoded)
    except OSError as error:
        _say(f"decoded {source.name} can't be kept in {path.parent} ({error.strerror or error}); going on without")
    return decoded


def cached_file(source: Source, location: Location) -> Path:
    """Where a source's images are kept. The same set in another place has a file of its own."""
    origin = hashlib.sha256(source.origin.encode()).hexdigest()[:8]
    return Path(location.cache_dir) / "decoded" / f"{source.name}-{origin}.safetensors"


def _load(path: Path, name: str, fingerprint: str) -> Decoded:
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT_VERSION):
                raise _DamagedError(f"format {metadata.get('format')}, not {FORMAT_VERSION}")
            class_names = tuple(json.loads(metadata["class_names"]))
            decoded = Decoded(file.get_tensor("images_NHWC"), file.get_tensor("labels_N"), class_names)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _DamagedError(f"not a file of decoded images ({' '.join(str(error).split())})") from None
    if metadata.get("sha256") != _contents_sha256(name, decoded):
        raise _DamagedError(f"its checksum is not that of {name}")
    if metadata.get("source") != fingerprint:
        raise _OutdatedError
    return decoded


def _store(path: Path, name: str, fingerprint: str, decoded: Decoded) -> None:
    """Atomic: a reader sees the whole file or none, and of two writers the last one wins with equal contents."""
    metadata = {
        "format": str(FORMAT_VERSION),
        "source": fingerprint,
        "sha256": _contents_sha256(name, decoded),
        "class_names": json.dumps(decoded.class_names),
    }
    clear(path.parent)
    content = save({"images_NHWC": decoded.images_NHWC, "labels_N": decoded.labels_N}, metadata)
    write_atomically(path, lambda file: file.write(content))


def _contents_sha256(name: str, decoded: Decoded) -> str:
    """Over everything that is used of a file and whose images it holds, so that neither may differ."""
    images_NHWC, labels_N = decoded.images_NHWC, decoded.labels_N
    facts = [name, decoded.class_names, images_NHWC.shape, images_NHWC.dtype.str, labels_N.shape, labels_N.dtype.str]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for array in (images_NHWC, labels_N):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(path.name + ".damaged")
    try:
        os.replace(path, aside)
    except OSError:  # another process was faster, or the folder is read-only
        _say(f"{path}: {error}; decoding again")
    else:
        _say(f"{path}: {error}; set aside as {aside.name}, decoding again")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
