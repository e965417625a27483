"""The rooms and floors of docs/architecture.md, read from the page and held against the imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import co3d_compile

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "co3d_compile"


def floors() -> dict[str, int]:
    """Room to floor, from the page's table."""
    page = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", page, flags=re.MULTILINE)
    return {room: int(floor) for floor, rooms in rows for room in re.findall(r"`([a-z]+)/?`", rooms)}


def modules() -> list[Path]:
    # passes/ is a link, and rglob follows none
    found = {*PACKAGE.rglob("*.py"), *(PACKAGE / "passes").rglob("*.py")}
    return sorted(found - {PACKAGE / "__init__.py"})


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in imports if name.startswith("co3d_compile.")}


def test_the_page_lists_every_room() -> None:
    assert {room_of(path) for path in modules()} == floors().keys()


def test_a_room_imports_from_its_own_floor_or_below() -> None:
    floor = floors()
    upward = {
        f"{path.relative_to(ROOT)} -> {room}"
        for path in modules()
        for room in rooms_imported(path)
        if floor[room] > floor[room_of(path)]
    }

    assert upward == set()


def test_passes_are_imported_under_one_name() -> None:
    sources = [*modules(), *(ROOT / "tests").glob("*.py"), *(ROOT / "examples").rglob("*.py")]
    pattern = re.compile(r"^\s*(from|import) passes\b", re.MULTILINE)

    assert [path.name for path in sources if pattern.search(path.read_text())] == []


def test_imports_are_absolute() -> None:
    relative = [
        path.name
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


def test_the_public_names_are_these() -> None:
    assert co3d_compile.__all__ == [
        "Co3dError",
        "Network",
        "State",
        "StepRule",
        "Stream",
        "compile",
        "join_states",
        "load",
    ]
    assert all(hasattr(co3d_compile, name) for name in co3d_compile.__all__)
