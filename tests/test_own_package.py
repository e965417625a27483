"""The example package, installed as a stranger's would be: its operation compiles, is saved, loaded and checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_operation"

pytestmark = pytest.mark.slow

COMPILE = """
import torch
from torch import nn
import co3d_compile
from own_operation import TemporalFilter

torch.manual_seed(0)
model = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2, padding=1), nn.ReLU(), TemporalFilter(stride=2), nn.Conv3d(4, 2, 1))
network = co3d_compile.compile(model, (1, 3, 16, 8, 8))
(output,) = network.report.outputs
assert (output.delay, output.stride, output.receptive_field) == (3, 4, 7), output
assert network.verify(model).passed
network.save("cont.pt")
torch.save(model.state_dict(), "weights.pt")
clip = torch.randn(1, 3, 16, 8, 8)
torch.export.save(torch.export.export(model.eval(), (clip,)), "model.pt2")
torch.jit.save(torch.jit.trace(model, clip), "script.pt")
video = torch.randn(2, 3, 21, 8, 8)
torch.save((video, model(video).detach()), "video.pt")
"""

LOAD = """
import sys
import torch
import co3d_compile

assert "own_operation" not in sys.modules
network = co3d_compile.load("cont.pt")
video, wanted = torch.load("video.pt")
torch.testing.assert_close(network(video).detach(), wanted)
"""

CHECK = """
from co3d_compile.testing import check_operation
from own_operation.rule import TemporalFilterRule

check_operation(TemporalFilterRule())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into, from a copy: building leaves files beside the source."""
    source = tmp_path_factory.mktemp("source") / "own_operation"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "-t", target, source], check=True)
    return target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """What is compiled where the package is installed."""
    folder = tmp_path_factory.mktemp("compiled")
    ended = run(COMPILE, folder, ROOT, site)
    assert ended.returncode == 0, ended.stderr
    return folder


def run(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning:co3d_compile", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_compiled_file_loads_where_the_package_is_installed(folder: Path, site: Path) -> None:
    ended = run(LOAD, folder, ROOT, site)

    assert ended.returncode == 0, ended.stderr


def test_a_compiled_file_names_the_package_where_it_is_not_installed(folder: Path) -> None:
    ended = run(LOAD, folder, ROOT)

    assert ended.stderr.endswith(
        "ArtifactError: 1 operator(s) were compiled with rules that are not here\n"
        "  own_operation.temporal_filter.default: own_operation.rule.TemporalFilterRule of the package "
        "own-operation 0.1.0\n"
        "  try: install own-operation 0.1.0, or give the rules: co3d_compile.load(path, ops=[...])\n"
    )


def test_the_packages_own_test_is_one_call(folder: Path, site: Path) -> None:
    ended = run(CHECK, folder, ROOT, site)

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["model.pt2", "script.pt"])
def test_a_model_file_is_read_where_the_package_is_installed_alone(folder: Path, site: Path, name: str) -> None:
    command = f"""
import sys
from co3d_compile.cli.compile import main

assert "own_operation" not in sys.modules
sys.exit(main(["{name}", "--clip", "1x3x16x8x8", "--out", "from_file.pt"]))
"""
    there, elsewhere = run(command, folder, ROOT, site), run(command, folder, ROOT)

    assert there.returncode == 0, there.stderr
    assert elsewhere.returncode == 1, elsewhere.stderr
    assert elsewhere.stderr.endswith(
        f"error: {name}: the model calls own_operation.temporal_filter.default, which no one here defines\n"
        "  try: install the package that defines it and its rule, or name the rule: --ops package.module:Rule\n"
    )


def test_the_command_finds_the_package_too(folder: Path, site: Path) -> None:
    factory = COMPILE.split("network =", maxsplit=1)[0].replace("model = ", "def make(): return ")
    (folder / "factories.py").write_text(factory)
    command = """
import sys
from co3d_compile.cli.compile import main

sys.exit(main(["weights.pt", "--model", "factories:make", "--clip", "1x3x16x8x8", "--out", "by_command.pt"]))
"""
    ended = run(command, folder, ROOT, site)

    assert ended.returncode == 0, ended.stderr
    assert "equal to the original" in ended.stdout
