"""What the documentation shows is run as it stands."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import co3d_compile.cli.compile
import co3d_compile.cli.inspect

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


COMMANDS = {"co3d-compile": co3d_compile.cli.compile.main, "co3d-inspect": co3d_compile.cli.inspect.main}

FACTORY = """
from torch import nn

def factory():
    return nn.Sequential(nn.Conv3d(3, 4, 3, stride=(1, 4, 4), padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def shown_commands() -> list[list[str]]:
    """Every call of our commands that a page shows, without its comment."""
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0].startswith("co3d-")]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_on_each_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem}

    assert blocks(page, "python")
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.slow
def test_the_commands_that_are_shown_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in a folder that holds the files they name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(FACTORY)
    model = importlib.import_module("package.module").factory()
    torch.export.save(torch.export.export(model, (torch.randn(1, 3, 16, 112, 112),)), tmp_path / "model.pt2")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")

    commands = shown_commands()
    codes = [COMMANDS[name](arguments) for name, *arguments in commands]

    assert {name for name, *_ in commands} == COMMANDS.keys()
    assert codes == [0] * len(commands)


def test_the_rule_that_is_shown_whole_is_the_one_that_is_used() -> None:
    source = (ROOT / "co3d_compile/ops/unfolding.py").read_text()
    listing = next(block for block in blocks(ROOT / "docs/adding-an-operation.md", "python") if "class Unfold" in block)

    assert source.endswith(listing)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text())
    local = [link for pair in links for link in pair if link and "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []
