"""Small studies that train in a second, and processes to run them in."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

TINY_STUDY: dict[str, Any] = {
    "tasks": [
        {
            "dataset": "digits",
            "network": {"name": "wide_resnet", "depth": 10, "width": 1},
            "train_images": 200,
            "validation_images": 60,
            "test_images": 60,
        }
    ],
    "recipe": {
        "epochs": 2,
        "batch_size": 32,
        "learning_rate": 0.05,
        "schedule": {"name": "cosine"},
        "augmentation": {"crop_padding": 1, "flip": False},
    },
    "methods": ["single"],
    "seeds": [0],
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study that trains in a second; arguments replace its top-level keys, `task` and `recipe` merge."""

    def write(stem: str = "tiny", *, task: dict[str, Any] | None = None, **changes: Any) -> Path:
        study = copy.deepcopy(TINY_STUDY)
        study["tasks"][0] |= task or {}
        study["recipe"] |= changes.pop("recipe", {})
        path = tmp_path / f"{stem}.yaml"
        path.write_text(yaml.safe_dump(study | changes))
        return path

    return write
