"""Which code runs: the commit, and what differs from it, as git says or as a snapshot remembers. No torch."""

import functools
import hashlib
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "methods", "slurm")


@dataclass(frozen=True)
class CodeVersion:
    commit: str
    """`unknown` outside a checkout."""
    diff: str
    """What differs from the commit in the packages, new files included, as a patch."""

    def __str__(self) -> str:
        return f"{self.commit}-dirty" if self.diff else self.commit

    @property
    def diff_digest(self) -> str:
        """Empty where nothing differs."""
        return hashlib.sha256(self.diff.encode()).hexdigest()[:12] if self.diff else ""


@functools.cache
def code_version(root: Path = ROOT) -> CodeVersion:
    remembered = root / "code_version.json"
    if remembered.is_file():
        try:
            said = json.loads(remembered.read_text())
            return CodeVersion(str(said["commit"]), str(said["diff"]))
        except (OSError, ValueError, TypeError, KeyError):
            return CodeVersion("unknown", "")
    try:
        # Installed packages may lie inside a checkout of something else.
        if Path(_git(root, "rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
            return CodeVersion("unknown", "")
        commit = _git(root, "rev-parse", "--short=12", "HEAD").strip()
        diff = _git(root, "diff", "HEAD", "--", *PACKAGES)
        new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *PACKAGES).split("\0")
        diff += "".join(
            _git(root, "diff", "--no-index", "--", "/dev/null", path, allowed=(0, 1)) for path in new if path
        )
    except (OSError, subprocess.SubprocessError):
        return CodeVersion("unknown", "")
    return CodeVersion(commit, diff)


def write_snapshot(folder: Path, root: Path = ROOT) -> CodeVersion:
    """Copy the packages, so that what is edited later runs in no job that was submitted before. Raises OSError."""
    version = code_version(root)
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / "code_version.json").write_text(json.dumps(asdict(version)))
    return version


def _git(root: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, timeout=20)
    if done.returncode not in allowed:
        raise subprocess.CalledProcessError(done.returncode, "git")
    return done.stdout.decode(errors="replace")
