"""Which code runs, in small git repositories made for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.code_version import PACKAGES, ROOT, CodeVersion, code_version, write_snapshot

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


def git(root: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{part}": "nobody@nowhere" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True, env=os.environ | who
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _forgets_what_it_knew() -> None:
    code_version.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed checkout with the packages, each with one module."""
    root = tmp_path / "checkout"
    for package in PACKAGES:
        (root / package / "inner").mkdir(parents=True)
        (root / package / "__init__.py").write_text("")
        (root / package / "module.py").write_text("value = 1\n")
        (root / package / "inner" / "data.yaml").write_text("a: 1\n")
    (root / "README.md").write_text("read me\n")
    (root / ".gitignore").write_text("__pycache__\nignored.py\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_clean_checkout_is_its_commit(checkout: Path) -> None:
    version = code_version(checkout)
    assert version == CodeVersion(git(checkout, "rev-parse", "--short=12", "HEAD"), "")
    assert str(version) == version.commit
    assert len(version.commit) == 12
    assert version.diff_digest == ""


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("staged", [False, True])
def test_changed_code_is_in_the_diff(package: str, staged: bool, checkout: Path) -> None:
    commit = code_version(checkout).commit
    code_version.cache_clear()
    (checkout / package / "module.py").write_text("value = 2\n")
    if staged:
        git(checkout, "add", ".")
    version = code_version(checkout)
    assert version.commit == commit
    assert str(version) == f"{commit}-dirty"
    assert "-value = 1\n+value = 2\n" in version.diff
    assert len(version.diff_digest) == 12


def test_different_changes_have_different_digests(checkout: Path) -> None:
    digests = set()
    for value in (2, 3):
        (checkout / "benchmark" / "module.py").write_text(f"value = {value}\n")
        code_version.cache_clear()
        digests.add(code_version(checkout).diff_digest)
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["new.py", "with blank.py", "größe.py", "inner/deep/new.py"])
def test_new_file_is_in_the_diff(name: str, checkout: Path) -> None:
    path = checkout / "methods" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("brand = 'new'\n")
    version = code_version(checkout)
    assert str(version).endswith("-dirty")
    assert "+brand = 'new'\n" in version.diff


def test_diff_restores_what_ran(checkout: Path, tmp_path: Path) -> None:
    (checkout / "benchmark" / "module.py").write_text("value = 2\n")
    (checkout / "methods" / "new.py").write_text("brand = 'new'\n")
    (checkout / "slurm" / "module.py").unlink()
    patch = tmp_path / "code.diff"
    patch.write_text(code_version(checkout).diff)
    clean = tmp_path / "clean"
    git(tmp_path, "clone", "-q", str(checkout), str(clean))
    git(clean, "apply", str(patch))
    assert (clean / "benchmark" / "module.py").read_text() == "value = 2\n"
    assert (clean / "methods" / "new.py").read_text() == "brand = 'new'\n"
    assert not (clean / "slurm" / "module.py").exists()


def test_what_lies_outside_the_packages_or_is_ignored_does_not_count(checkout: Path) -> None:
    (checkout / "README.md").write_text("read me again\n")
    (checkout / "notes.py").write_text("")
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_it.py").write_text("")
    (checkout / "benchmark" / "ignored.py").write_text("")
    (checkout / "benchmark" / "__pycache__").mkdir()
    (checkout / "benchmark" / "__pycache__" / "module.pyc").write_bytes(b"\0")
    assert code_version(checkout).diff == ""


def test_packages_installed_inside_somebody_elses_checkout_are_unknown(checkout: Path) -> None:
    site = checkout / ".venv" / "site-packages"
    shutil.copytree(checkout / "benchmark", site / "benchmark")
    assert code_version(site) == CodeVersion("unknown", "")


def test_code_outside_of_any_checkout_or_before_the_first_commit_is_unknown(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    assert code_version(bare) == CodeVersion("unknown", "")
    code_version.cache_clear()
    git(bare, "init", "-q")
    assert code_version(bare) == CodeVersion("unknown", "")


def test_code_is_unknown_where_git_is_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert code_version(checkout) == CodeVersion("unknown", "")


def test_checkout_behind_a_symbolic_link_is_known(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkout)
    assert code_version(tmp_path / "link").commit != "unknown"


def test_snapshot_remembers_commit_and_diff(checkout: Path, tmp_path: Path) -> None:
    (checkout / "benchmark" / "module.py").write_text("value = 2\n")
    (checkout / "methods" / "new.py").write_text("brand = 'new'\n")
    written = write_snapshot(tmp_path / "code", checkout)
    assert written == code_version(checkout)
    assert written.diff
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "second")
    code_version.cache_clear()
    assert code_version(tmp_path / "code") == written
    assert json.loads((tmp_path / "code" / "code_version.json").read_text())["commit"] == written.commit


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"commit": "abc"}', "\0"])
def test_damaged_memory_of_a_snapshot_is_unknown(content: str, tmp_path: Path) -> None:
    (tmp_path / "code_version.json").write_text(content)
    assert str(code_version(tmp_path)) == "unknown"


def test_snapshot_inside_a_checkout_remembers_too(checkout: Path) -> None:
    """Results often lie inside the checkout."""
    folder = checkout / "results" / "study" / "code"
    written = write_snapshot(folder, checkout)
    (checkout / "benchmark" / "module.py").write_text("value = 3\n")
    code_version.cache_clear()
    assert code_version(folder) == written


def test_snapshot_is_not_changed_by_what_is_edited_later(checkout: Path, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "code", checkout)
    (checkout / "benchmark" / "module.py").write_text("value = 3\n")
    assert (tmp_path / "code" / "benchmark" / "module.py").read_text() == "value = 1\n"


def test_snapshot_holds_the_packages_and_no_caches(checkout: Path, tmp_path: Path) -> None:
    for folder in ("benchmark/__pycache__", "benchmark/inner/__pycache__", "slurm/.mypy_cache"):
        (checkout / folder).mkdir()
        (checkout / folder / "module.pyc").write_bytes(b"\0")
    write_snapshot(tmp_path / "code", checkout)
    held = sorted(str(path.relative_to(tmp_path / "code")) for path in (tmp_path / "code").rglob("*") if path.is_file())
    files = ("__init__.py", "inner/data.yaml", "module.py")
    assert held == sorted(["code_version.json", *(f"{package}/{file}" for package in PACKAGES for file in files)])


def test_snapshot_of_this_code_runs_without_the_checkout(tmp_path: Path) -> None:
    written = write_snapshot(tmp_path / "code")
    assert not list((tmp_path / "code").rglob("__pycache__"))
    script = """
import benchmark.config, slurm.profile
from benchmark.code_version import code_version
print(benchmark.config.__file__, slurm.profile.__file__, code_version().commit)
benchmark.config.load_study("quickstart")
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "code"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "code", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    code = tmp_path / "code"
    assert done.stdout.split() == [str(code / "benchmark/config.py"), str(code / "slurm/profile.py"), written.commit]
    for package in PACKAGES:
        here = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert here == {path.relative_to(code) for path in (code / package).rglob("*.py")}
    assert (code / "benchmark" / "report").is_dir()
