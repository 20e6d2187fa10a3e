"""Who may import whom, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("benchmark", "methods", "slurm") for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_follow_the_rules(path: Path) -> None:
    name, names = module_name(path), imported(path)
    may_import_methods = name in ("benchmark.run", "benchmark.methods") or inside(name, "benchmark.speed")
    if not may_import_methods and not inside(name, "methods"):
        assert not [i for i in names if inside(i, "methods")], "only run.py, methods.py and speed import methods"
    if inside(name, "methods") and name != "methods":
        allowed = ("benchmark.method", "benchmark.networks", "benchmark.seeding")
        ours = [i for i in names if inside(i, "benchmark") or inside(i, "slurm")]
        assert all(any(inside(i, package) for package in allowed) for i in ours)
        from methods import METHODS

        files = {method.__module__ for method in METHODS.values()}
        assert not [i for i in names if any(inside(i, file) for file in files)], "a method imports no other method"
    if any(
        inside(name, free)
        for free in ("benchmark.metrics", "benchmark.statistics", "benchmark.report", "benchmark.store")
    ):
        assert not [i for i in names if inside(i, "torch") or inside(i, "torchvision")], "needs no torch"
    if not inside(name, "slurm"):
        assert not [i for i in names if inside(i, "submitit")], "only slurm imports submitit"
        if name != "benchmark.sweep":
            assert not [i for i in names if inside(i, "slurm")], "only sweep.py imports slurm"


def test_methods_stay_short() -> None:
    from methods import METHODS

    for method in METHODS.values():
        path = ROOT / (method.__module__.replace(".", "/") + ".py")
        assert len(path.read_text().splitlines()) < 150, path


def test_what_answers_at_once_imports_no_torch() -> None:
    """Planning, reading and reporting: followed through the project's own imports."""
    by_name = {module_name(path): path for path in MODULES}
    seen: set[str] = set()
    front = {"benchmark.sweep", "benchmark.report.__main__", "benchmark.workers"}
    while front:
        name = front.pop()
        seen.add(name)
        tree = ast.parse(by_name[name].read_text())
        top_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top_level if isinstance(node, ast.Import) for alias in node.names}
        for node in top_level:
            if isinstance(node, ast.ImportFrom):
                names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        assert not [i for i in names if inside(i, "torch")], name
        front |= {i for i in names if i in by_name} - seen
