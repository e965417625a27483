"""Every kind of model file, told by its content; every refusal with its text."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import Dim

import co3d_compile
from co3d_compile.capture.source import KINDS, read_model
from co3d_compile.errors import CaptureError, ModelFileError
from tests.small_models import CLIP, residual, trunk

FACTORY = "tests.small_models:residual"
Write = Callable[[nn.Module, Path], object]


@contextmanager
def torch_may_warn() -> Iterator[None]:
    """TorchScript is deprecated, and torch says so at every step of it; our own code stays under ``error``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sample() -> Tensor:
    return torch.randn(CLIP, generator=torch.Generator().manual_seed(3))


def video() -> Tensor:
    return torch.randn(1, 2, 15, 6, 6, generator=torch.Generator().manual_seed(4))


def write_exported(model: nn.Module, path: Path) -> None:
    with torch_may_warn():
        torch.export.save(torch.export.export(model, (sample(),)), path)


def write_open(model: nn.Module, path: Path) -> None:
    """Exported with time left open."""
    with torch_may_warn():
        program = torch.export.export(model, (sample(),), dynamic_shapes=({2: Dim("time", min=2, max=64)},))
        torch.export.save(program, path)


def write_traced(model: nn.Module, path: Path) -> None:
    with torch_may_warn():
        torch.jit.save(torch.jit.trace(model, sample()), path)


def write_scripted(model: nn.Module, path: Path) -> None:
    with torch_may_warn():
        torch.jit.save(torch.jit.script(model), path)


def write_frozen(model: nn.Module, path: Path) -> None:
    with torch_may_warn():
        torch.jit.save(torch.jit.freeze(torch.jit.script(model)), path)


def write_legacy(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def write_checkpoint(model: nn.Module, path: Path) -> None:
    torch.save({"epoch": 3, "model_state": model.state_dict()}, path)


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model(path, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("write", "options", "knows_its_clip"),
    [
        (write_exported, {}, True),
        (write_traced, {}, False),
        (write_scripted, {}, False),
        (write_frozen, {}, False),
        (lambda model, path: torch.save(model.state_dict(), path), {"factory": FACTORY}, False),
        (write_legacy, {"factory": FACTORY}, False),
        (write_checkpoint, {"factory": FACTORY}, False),
        (lambda model, path: safetensors.torch.save_file(model.state_dict(), path), {"factory": FACTORY}, False),
        (torch.save, {"trust_pickle": True}, False),
    ],
    ids=["exported", "traced", "scripted", "frozen", "weights", "legacy", "checkpoint", "safetensors", "pickled"],
)
def test_file_streams_as_its_model(tmp_path: Path, write: Write, options: dict, knows_its_clip: bool) -> None:
    """All files are called .pt: the content tells which they are."""
    write(residual(), tmp_path / "model.pt")
    expected = co3d_compile.compile(residual(), CLIP)(video())

    loaded = read_model(tmp_path / "model.pt", **options)
    network = co3d_compile.compile(loaded.model, CLIP if loaded.clip is None else loaded.clip)

    assert (loaded.clip is not None) is knows_its_clip
    # freezing folds the norm into the convolution, which rounds otherwise
    torch.testing.assert_close(network(video()), expected, rtol=1e-5, atol=1e-6)


def test_open_sizes_are_closed_at_the_clip(tmp_path: Path) -> None:
    write_open(trunk(), tmp_path / "model.pt2")
    expected = co3d_compile.compile(trunk(), (1, 2, 9, 6, 6))

    network = co3d_compile.compile(read_model(tmp_path / "model.pt2").model, (1, 2, 9, 6, 6))

    assert network.plan.inputs[0].shape == (1, 2, 9, 6, 6)
    assert torch.equal(network(video()), expected(video()))


def test_exported_for_another_shape(tmp_path: Path) -> None:
    write_exported(trunk(), tmp_path / "model.pt2")

    with pytest.raises(CaptureError) as caught:
        co3d_compile.compile(read_model(tmp_path / "model.pt2").model, (1, 2, 9, 6, 6))

    assert str(caught.value) == (
        "x: the clip has shape (1, 2, 9, 6, 6), the program was exported for (1, 2, 6, 6, 6)\n"
        "  try: a clip of that shape, or export the model again for yours"
    )


def test_torchscript_that_fails_on_the_clip(tmp_path: Path) -> None:
    write_scripted(trunk(), tmp_path / "model.pt")

    with pytest.raises(CaptureError, match=r"the file's model fails on a clip of shape \(1, 7, 6, 6, 6\): .*\n  try: "):
        co3d_compile.compile(read_model(tmp_path / "model.pt").model, (1, 7, 6, 6, 6))


@pytest.mark.parametrize("write", [write_exported, write_scripted])
def test_whole_model_needs_no_factory(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "model.pt"
    write(trunk(), path)

    assert refusal(path, factory=FACTORY) == (
        f"{path}: the file holds a whole model, which needs no {FACTORY}\n  try: without --model"
    )


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "none.pt"

    assert refusal(path) == f"{path}: no such file\n  try: one of {KINDS}"


def test_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: a folder, not a model file\n  try: one of {KINDS}"


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.touch()

    assert refusal(path) == f"{path}: the file is empty\n  try: copy it again"


@pytest.mark.parametrize("content", [b"GIF89a\x01\x00", b"import torch\n", b"\x00" * 64])
def test_not_a_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)

    assert refusal(path) == f"{path}: not a model file\n  try: one of {KINDS}"


def test_zip_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    assert refusal(path) == f"{path}: a zip, but not a model file\n  try: one of {KINDS}"


def test_pickle_that_holds_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save([1, 2], path)

    assert (
        refusal(path, factory=FACTORY)
        == f"{path}: holds an object of type list, neither a model nor weights\n  try: one of {KINDS}"
    )


@pytest.mark.parametrize("write", [write_exported, write_scripted, lambda m, p: torch.save(m.state_dict(), p)])
def test_truncated_archive(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "model.pt"
    write(residual(), path)
    path.write_bytes(path.read_bytes()[:-200])

    text = refusal(path)

    assert text.startswith(f"{path}: the file is damaged or cut short: ")
    assert text.endswith("\n  try: copy it again")


@pytest.mark.parametrize("write", [write_legacy, lambda m, p: safetensors.torch.save_file(m.state_dict(), p)])
def test_truncated_weights(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "model.pt"
    write(residual(), path)
    path.write_bytes(path.read_bytes()[:-100])

    assert refusal(path, factory=FACTORY).startswith(f"{path}: the file is damaged or cut short: ")


def test_compiled_file(tmp_path: Path) -> None:
    path = tmp_path / "cont.pt"
    co3d_compile.compile(trunk(), CLIP).save(path)

    assert refusal(path) == (
        f"{path}: compiled already; co3d-compile takes the original model\n  try: co3d-inspect {path}"
    )


def test_pickled_module_without_trust(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(residual(), path)

    assert refusal(path) == (
        f"{path}: it holds pickled objects besides tensors; loading those runs whatever code the file's author put in\n"
        "  try: --trust-pickle if you know where it comes from; else torch.export.save(...), or weights and --model"
    )


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def with_bomb(path: Path, member: str, mark: Path) -> None:
    """Put a pickled object in place of a member of an archive."""
    stream = io.BytesIO()
    torch.save((Bomb(mark),), stream)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in members if name.endswith(member)]
    members[name] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in members.items():
            archive.writestr(entry, content)


def test_nothing_is_unpickled_without_trust(tmp_path: Path) -> None:
    """torch.export.load falls back to a full unpickling of sample inputs; raw pickles are pickles too."""
    mark, exported, raw = tmp_path / "mark", tmp_path / "model.pt2", tmp_path / "raw.pt"
    write_exported(trunk(), exported)
    with_bomb(exported, "sample_inputs/model.pt", mark)
    raw.write_bytes(pickle.dumps(Bomb(mark)))

    assert "sample_inputs/model.pt holds pickled objects" in refusal(exported)
    assert "it holds pickled objects" in refusal(raw)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"use_pickle": false', b'"use_pickle": true', "a pickled tensor"),
        (b"torch.ops.aten.conv3d.default", b"torch.hub.load", "a call of torch.hub.load"),
        (b'"guards_code": []', b'"guards_code": ["f()"]', "a guard 'f()'"),
        (b"Symbol('s", b"exec('s", "is no size"),
    ],
)
def test_archive_that_would_run_code(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    path = tmp_path / "model.pt2"
    write_open(trunk(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name).replace(old, new) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    assert reason in refusal(path)


def test_weights_without_a_factory(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(trunk().state_dict(), path)

    assert refusal(path) == (
        f"{path}: holds 3 weights and no model to put them into\n"
        "  try: --model package.module:factory, which makes the model"
    )


def test_weights_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weights = residual().state_dict()
    weights["extra"] = weights.pop("head.bias")
    weights["head.weight"] = torch.zeros(7, 3)
    torch.save(weights, path)

    assert refusal(path, factory=FACTORY) == (
        f"{path}: these are not the weights of {FACTORY}\n"
        "  1 missing: head.bias\n"
        "  1 unexpected: extra\n"
        "  1 of another shape: head.weight (7, 3), not (4, 3)\n"
        "  try: the factory that made the model when the weights were saved"
    )


def test_weights_of_a_wrapper(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.DataParallel(trunk()).state_dict(), path)

    text = refusal(path, factory="tests.small_models:trunk")

    assert "3 missing: one.bias, one.weight, other.weight" in text
    assert text.endswith("  try: save model.module.state_dict(): these were saved from a DataParallel wrapper")


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("residual", "'residual' names no factory\n  try: package.module:factory"),
        (
            "no.such:thing",
            "no.such:thing: no.such cannot be imported: ModuleNotFoundError: No module named 'no'\n"
            "  try: run from the folder that holds it, or install it",
        ),
        (
            "tests.small_models:nothing",
            "tests.small_models:nothing: tests.small_models has no nothing\n"
            "  try: a function or class in it that makes the model",
        ),
        (
            "tests.small_models:CONSTANT",
            "tests.small_models:CONSTANT: an object of type int cannot be called\n"
            "  try: a function or class that makes the model",
        ),
        (
            "tests.small_models:number",
            "tests.small_models:number: returns an object of type int, not a torch.nn.Module\n"
            "  try: a function without arguments that makes the model",
        ),
        (
            "tests.small_models:failing",
            "tests.small_models:failing: fails when called without arguments: KeyError: 'no configuration'\n"
            "  try: a function without arguments that makes the model",
        ),
    ],
)
def test_factory_that_makes_no_model(tmp_path: Path, factory: str, text: str) -> None:
    torch.save(trunk().state_dict(), tmp_path / "model.pt")

    assert refusal(tmp_path / "model.pt", factory=factory) == text
