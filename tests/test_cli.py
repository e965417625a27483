"""The commands: what they print, where, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import co3d_compile
from co3d_compile.cli import compile as compile_command
from co3d_compile.cli import inspect as inspect_command
from co3d_compile.network import Network
from co3d_compile.verification.result import Comparison, Verification
from tests.small_models import CLIP, Pair, residual, trunk

SHAPE = "x".join(str(size) for size in CLIP)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save(trunk().state_dict(), path)
    return path


def compiled(weights: Path, *more: str, out: str = "cont.pt") -> int:
    return compile_command.main(
        [
            str(weights),
            "--out",
            str(weights.parent / out),
            "--model",
            "tests.small_models:trunk",
            "--clip",
            SHAPE,
            *more,
        ]
    )


def usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        compile_command.main(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_compiles_verifies_and_writes(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = torch.randn(1, 2, 11, 6, 6, generator=torch.Generator().manual_seed(1))

    code = compiled(weights)

    printed = capsys.readouterr()
    assert code == 0
    assert "receptive field" in printed.out
    assert "equal to the original on a random video" in printed.out
    assert f"{weights.parent / 'cont.pt'}: written, " in printed.err
    expected = co3d_compile.compile(trunk(), CLIP)(video)
    assert torch.equal(co3d_compile.load(weights.parent / "cont.pt")(video), expected)


def test_json_on_stdout_is_only_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = compiled(weights, "--json")

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["report"]["outputs"][0]["delay"] == 2
    assert found["verification"]["passed"] is True


def test_without_verification(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = compiled(weights, "--no-verify", "--json")

    assert code == 0
    assert json.loads(capsys.readouterr().out)["verification"] is None


@pytest.mark.parametrize("start", ["zeros", "valid", "replicate"])
def test_options_reach_the_compiler(tmp_path: Path, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "model.pt", tmp_path / "cont.pt"
    torch.save(residual().state_dict(), path)
    options = ["--model", "tests.small_models:residual", "--clip", SHAPE, "--start", start, "--window", "5"]

    code = compile_command.main([str(path), "--out", str(out), *options, "--policy", "mean=window", "--no-verify"])

    assert code == 0, capsys.readouterr().err
    wanted = co3d_compile.compile(residual(), CLIP, start=start, window=5, policy={"mean": "window"})
    assert co3d_compile.load(out).plan == wanted.plan


def test_exported_file_knows_its_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.export.save(torch.export.export(trunk(), (torch.zeros(CLIP),)), tmp_path / "model.pt2")

    code = compile_command.main([str(tmp_path / "model.pt2"), "--out", str(tmp_path / "cont.pt")])

    assert code == 0, capsys.readouterr().err


def test_input_at_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = compile_command.main([str(tmp_path / "none.pt"), "--out", str(tmp_path / "cont.pt"), "--clip", SHAPE])

    printed = capsys.readouterr()
    assert code == 1
    assert printed.out == ""
    assert printed.err.startswith(f"error: {tmp_path / 'none.pt'}: no such file\n  try: ")


def test_strict_refuses_an_approximation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pt"
    torch.save(residual().state_dict(), path)
    options = ["--model", "tests.small_models:residual", "--clip", SHAPE, "--strict"]

    code = compile_command.main([str(path), "--out", str(tmp_path / "cont.pt"), *options])

    assert code == 1
    assert capsys.readouterr().err.startswith("error: strict, and 1 part(s) are approximate\n")


def test_no_place_to_write_is_found_before_the_work(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = compiled(weights, out="nowhere/cont.pt")

    assert code == 1
    assert capsys.readouterr().err == (
        f"error: {weights.parent}/nowhere/cont.pt: cannot be written\n"
        "  try: a file in a folder that exists and may be written to\n"
    )


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["model.pt"], "the following arguments are required: --out"),
        (["m", "--out", "c", "--clip", "1x3xT"], "argument --clip: '1x3xT' is not a shape such as 1x3x16x224x224"),
        (["m", "--out", "c", "--clip", "1x0x3"], "argument --clip: '1x0x3' is not a shape such as 1x3x16x224x224"),
        (
            ["m", "--out", "c", "--clip", "1,3,8,6,6"],
            "'1,3,8,6,6' is 5 shapes of one size each, not one such as 1x3x8x6x6",
        ),
        (["m", "--out", "c", "--window", "0"], "argument --window: '0' is not a number from 1 up"),
        (["m", "--out", "c", "--start", "ones"], "argument --start: invalid choice: 'ones'"),
        (["m", "--out", "c", "--policy", "se=all"], "argument --policy: 'se=all' is not PATTERN=frame or"),
        (["m", "--out", "c", "--clip", "1x2,1x2", "--clip", "1x2"], "--clip: either once, with commas"),
        (["m", "--out", "m"], "--out is the model itself"),
    ],
)
def test_wrong_usage(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in usage_error(argv, capsys)


def test_clip_that_nobody_knows(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(weights), "--out", str(weights.parent / "cont.pt"), "--model", "tests.small_models:trunk"]

    assert "--clip is needed: the file (weights) does not say which clip the model takes" in usage_error(argv, capsys)


def test_several_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once per argument; two videos that are added."""
    path, out = tmp_path / "pair.pt2", tmp_path / "cont.pt"
    torch.export.save(torch.export.export(Pair(), (torch.zeros(CLIP), torch.zeros(CLIP))), path)

    code = compile_command.main([str(path), "--out", str(out), "--clip", SHAPE, "--clip", SHAPE])

    assert code == 0, capsys.readouterr().err
    assert len(co3d_compile.load(out).plan.inputs) == 2


def test_rules_by_name(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cont = weights.parent / "cont.pt"
    torch.save(residual().state_dict(), weights)
    options = ["--model", "tests.small_models:residual", "--clip", SHAPE, "--ops", "tests.test_own_rules:Doubled"]

    assert compile_command.main([str(weights), "--out", str(cont), *options]) == 0
    assert inspect_command.main([str(cont)]) == 1
    assert "aten.relu.default: tests.test_own_rules.Doubled" in capsys.readouterr().err
    assert inspect_command.main([str(cont), "--ops", "tests.test_own_rules:Doubled"]) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Doubled", "error: --ops 'Doubled' names no rule\n  try: package.module:Rule\n"),
        (
            "tests.nowhere:Rule",
            "error: --ops tests.nowhere:Rule: ModuleNotFoundError: No module named 'tests.nowhere'\n",
        ),
        ("tests.test_own_rules:Rule", "error: --ops tests.test_own_rules:Rule: AttributeError: module 'tests.test_own"),
        ("tests.small_models:trunk", "error: an object of type tests.small_models.Trunk is no rule\n"),
    ],
)
def test_names_of_no_rule(weights: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(weights, "--ops", name) == 1
    assert capsys.readouterr().err.startswith(text)


def test_difference_writes_nothing(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Comparison("output", "other", "the original", 8, 8, float("inf"), 1.0, 2.0, 1e-4)
    monkeypatch.setattr(Network, "verify", lambda self, model: Verification(9, (wrong,), ()))

    code = compiled(weights, "--json")

    printed = capsys.readouterr()
    assert code == 3
    assert json.loads(printed.out)["verification"]["outputs"][0]["difference"] == "inf"
    assert printed.err.startswith(f"difference: {weights.parent / 'cont.pt'} is not written\n  try: ")
    assert not (weights.parent / "cont.pt").exists()


def test_our_own_bug(weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a clock of period 0")

    monkeypatch.setattr(compile_command, "compile", broken)

    code = compiled(weights)

    printed = capsys.readouterr()
    assert code == 4
    assert printed.err.startswith("Traceback (most recent call last):\n")
    assert printed.err.endswith(
        "bug in co3d-compile: ZeroDivisionError: a clock of period 0\n"
        "  this is not your model's or your input's fault\n"
        "  try: report it with the traceback above and the model's layers\n"
    )


def test_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = co3d_compile.compile(trunk(), CLIP)
    network.save(tmp_path / "cont.pt")

    code = inspect_command.main([str(tmp_path / "cont.pt")])
    text = capsys.readouterr().out
    json_code = inspect_command.main([str(tmp_path / "cont.pt"), "--json"])
    data = json.loads(capsys.readouterr().out)

    assert (code, json_code) == (0, 0)
    assert "receptive field" in text
    assert type(network.report).from_dict(data) == network.report


def saved(path: Path, **options: str) -> str:
    co3d_compile.compile(residual(), CLIP, **options).save(path)
    return str(path)


def test_inspect_by_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = inspect_command.main([saved(tmp_path / "cont.pt"), "--depth", "1"])

    printed = capsys.readouterr().out
    assert code == 0
    assert "Modules\n" in printed
    assert "Layers\n" not in printed


def test_inspect_of_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [saved(tmp_path / "native.pt"), saved(tmp_path / "dense.pt", rate="dense")]

    assert inspect_command.main(files) == 0
    assert "Layers that differ" in capsys.readouterr().out
    assert inspect_command.main([*files, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [data["first"], data["second"]] == files
    assert data["options"][-1]["second"] == "dense"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["a", "b", "c"], "one network, or two to compare"),
        (["a", "--depth", "-1"], "argument --depth: "),
        (["a", "--depth", "two"], "argument --depth: 'two' is not a number from 0 up"),
        (["a", "b", "--depth", "2"], "--depth: for the tables of one network"),
        (["a", "--json", "--depth", "2"], "--depth: for the tables of one network"),
    ],
)
def test_wrong_usage_of_inspect(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect_command.main(argv)

    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_inspect_by_the_papers_convention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = co3d_compile.compile(trunk(), CLIP)
    network.save(tmp_path / "cont.pt")
    paper = network.accounting("paper")

    code = inspect_command.main([str(tmp_path / "cont.pt"), "--convention", "paper"])
    text = capsys.readouterr().out
    inspect_command.main([str(tmp_path / "cont.pt"), "--convention", "paper", "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert f"{paper.clip_flops:,}" in text
    assert found == json.loads(json.dumps(paper.to_dict()))


def test_the_papers_convention_is_for_one_network(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        inspect_command.main(["a.pt", "b.pt", "--convention", "paper"])

    assert "--convention paper: for one network, without --depth" in capsys.readouterr().err


def test_inspect_of_weights_asks_for_their_model(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect_command.main([str(weights)]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: {weights}: holds 3 weights and no model to put them into\n  try: --model"
    )


@pytest.mark.slow
def test_as_a_process(weights: Path) -> None:
    """The real thing once: exit code, stdout and stderr apart."""
    out = weights.parent / "cont.pt"
    code = "import sys; from co3d_compile.cli.compile import main; sys.exit(main())"
    options = ["--out", str(out), "--model", "tests.small_models:trunk", "--clip", SHAPE, "--json"]

    made = subprocess.run([sys.executable, "-c", code, weights, *options], check=False, capture_output=True, text=True)

    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["verification"]["passed"] is True
    assert made.stderr.startswith(f"{out}: written, ")
