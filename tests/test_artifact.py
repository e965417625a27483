"""Compiled files: what goes in comes out, and what is damaged is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.artifact import META, TENSORS
from co3d_compile.errors import ArtifactError
from co3d_compile.network import Network
from co3d_compile.plan.encoding import PLAN_FILE, decode_plan, encode_plan
from co3d_compile.plan.operators import require_callable
from tests.small_models import CLIP, Several, residual, trunk


@pytest.fixture(scope="module")
def network() -> Network:
    return co3d_compile.compile(residual(), CLIP)


@pytest.fixture
def saved(network: Network, tmp_path: Path) -> Path:
    path = tmp_path / "cont.pt"
    network.save(path)
    return path


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None], *, checked: bool = True) -> Path:
    """The file with its members changed, and its checksums made to fit unless they are what is tested."""
    from hashlib import sha256

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    if checked:
        meta = json.loads(members[META])
        meta["sha256"] = {name: sha256(content).hexdigest() for name, content in members.items() if name != META}
        members[META] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def in_json(name: str, change: Callable[[dict], object]) -> Callable[[dict[str, bytes]], None]:
    """A change of one JSON member."""

    def changed(members: dict[str, bytes]) -> None:
        value = json.loads(members[name])
        change(value)
        members[name] = json.dumps(value).encode()

    return changed


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        co3d_compile.load(path)
    return str(caught.value)


@pytest.mark.parametrize("start", ["zeros", "valid", "replicate"])
def test_plan_survives_json(start: str) -> None:
    """Equal, and equal as text too: the fingerprint that states carry is made of it."""
    plan = co3d_compile.compile(residual(), CLIP, start=start).plan

    back = decode_plan(json.loads(json.dumps(encode_plan(plan), allow_nan=False)))

    assert back == plan
    assert repr(back) == repr(plan)


def test_loaded_network_gives_the_same_numbers(network: Network, saved: Path) -> None:
    video = torch.randn(2, 2, 17, 6, 6, generator=torch.Generator().manual_seed(1))

    loaded = co3d_compile.load(saved)

    assert torch.equal(loaded(video), network(video))
    assert loaded.report == network.report


def test_loaded_network_goes_on_from_a_state_of_the_saved_one(network: Network, saved: Path) -> None:
    frames = torch.randn(9, 1, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    loaded = co3d_compile.load(saved)
    state, wanted = network.initial_state(), network.initial_state()
    for frame in frames[:4]:
        _, state = network.step(frame, state)
        _, wanted = network.step(frame, wanted)
    for frame in frames[4:]:
        expected, wanted = network.step(frame, wanted)
        out, state = loaded.step(frame, state)

        assert (out is None) is (expected is None)
        assert out is None or torch.equal(out, expected)


def test_weights_keep_names_order_and_kind(network: Network, saved: Path) -> None:
    original = residual()

    loaded = co3d_compile.load(saved)

    assert list(loaded.state_dict()) == list(original.state_dict())
    assert [name.removeprefix("weights.") for name, _ in loaded.named_parameters()] == [
        name for name, _ in original.named_parameters()
    ]
    assert {name.removeprefix("weights.") for name, _ in loaded.named_buffers()} == {
        name for name, _ in original.named_buffers()
    }
    loaded.load_state_dict(original.state_dict())


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    network = co3d_compile.compile(residual(), CLIP)
    network.weights.find("stem.weight").requires_grad_(False)
    network.save(tmp_path / "cont.pt")

    loaded = co3d_compile.load(tmp_path / "cont.pt")

    assert [n for n, p in loaded.named_parameters() if not p.requires_grad] == ["weights.stem.weight"]


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    network = co3d_compile.compile(trunk(), CLIP)
    network.save(tmp_path / "cont.pt")

    loaded = co3d_compile.load(tmp_path / "cont.pt")

    assert loaded.weights.find("one.weight") is loaded.weights.find("other.weight")
    assert list(loaded.state_dict()) == list(trunk().state_dict())
    assert len(list(loaded.parameters())) == len(list(trunk().parameters())) == 2


def test_same_network_gives_the_same_bytes(network: Network, saved: Path, tmp_path: Path) -> None:
    network.save(tmp_path / "again.pt")

    assert (tmp_path / "again.pt").read_bytes() == saved.read_bytes()


@pytest.mark.slow
def test_loading_imports_nothing_of_the_models(saved: Path) -> None:
    """Neither the model's module nor torchvision or pytorchvideo, in a fresh interpreter."""
    code = (
        "import sys, co3d_compile; net = co3d_compile.load(sys.argv[1]); net.report;"
        "print([name for name in sys.modules if name.startswith(('tests', 'torchvision', 'pytorchvideo'))])"
    )

    made = subprocess.run([sys.executable, "-c", code, saved], check=False, capture_output=True, text=True)

    assert made.stdout.strip() == "[]", made.stderr


def test_failed_save_leaves_the_old_file_and_nothing_else(
    network: Network, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError) as caught:
        network.save(saved)

    assert str(caught.value) == (
        f"{saved}: cannot be written: No space left on device\n  try: a folder that exists and has room"
    )
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_folder_that_does_not_exist(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be written: No such file or directory\n  try: a folder"):
        network.save(tmp_path / "nowhere" / "cont.pt")


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "none.pt"

    assert refusal(path) == f"{path}: no such file\n  try: a file that co3d-compile wrote"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])

    assert refusal(saved) == (
        f"{saved}: the file is damaged: it is no whole zip (File is not a zip file)\n"
        "  try: copy it again, or compile the model again"
    )


def test_flipped_byte_in_the_weights(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    place = content.index(b"__metadata__") if b"__metadata__" in content else content.index(b"stem.weight") + 400
    content[place] ^= 0xFF
    saved.write_bytes(bytes(content))

    assert "the file is damaged" in refusal(saved)


def test_wrong_checksum(saved: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[TENSORS] = members[TENSORS][:-1] + bytes([members[TENSORS][-1] ^ 1])

    path = rewritten(saved, change, checked=False)

    assert refusal(path) == (
        f"{path}: the file is damaged: weights.safetensors does not match its checksum\n"
        "  try: copy it again, or compile the model again"
    )


def test_missing_member(saved: Path) -> None:
    path = rewritten(saved, lambda members: members.pop(TENSORS) and None)

    assert "the file is damaged: weights.safetensors is missing" in refusal(path)


def test_newer_format(saved: Path) -> None:
    path = rewritten(saved, in_json(META, lambda meta: meta.update(format=99, compiler="9.0")))

    text = refusal(path)

    assert text.startswith(f"{path}: written in format 99, by version 9.0; this is version ")
    assert text.endswith("\n  try: a later co3d-compile, or compile the model again with this one")


def test_another_zip(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(residual().state_dict(), path)

    assert refusal(path) == f"{path}: not a compiled file: it holds no meta.json\n  try: a file that co3d-compile wrote"


@pytest.mark.parametrize(
    "target",
    [
        "aten.from_file.default",
        "aten.relu_.default",
        "os.system",
        "aten.nonsense.default",
        "prim.print.default",
        "aten",
    ],
)
def test_operator_that_no_plan_may_call(saved: Path, target: str) -> None:
    path = rewritten(saved, in_json(PLAN_FILE, lambda plan: plan["nodes"][0].update(target=target)))

    assert refusal(path) == (
        f"the plan calls {target!r}, which is no operator that a compiled network may call\n"
        "  try: compile the model again, with this version"
    )


def test_constants_may_be_computed_by_operators_without_a_rule(tmp_path: Path) -> None:
    class Ramp(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.arange(6.0).flip(0).sort().values

    co3d_compile.compile(Ramp(), CLIP).save(tmp_path / "cont.pt")
    video = torch.randn(1, 2, 9, 6, 6, generator=torch.Generator().manual_seed(4))

    assert torch.equal(co3d_compile.load(tmp_path / "cont.pt")(video), Ramp()(video))
    require_callable("aten.arange.default")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda plan: plan.update(period="8"), "plan.period: int expected, '8' found"),
        (lambda plan: plan.pop("period"), "plan: missing or unknown fields: period"),
        (lambda plan: plan["nodes"][0].update(way="sideways"), "plan.nodes[0].way: Way expected, 'sideways' found"),
        (lambda plan: plan["inputs"][0].update(dtype="Tensor"), "the plan holds an argument {'dtype': 'Tensor'}"),
        (lambda plan: plan["nodes"][0]["arguments"].update(input={"call": "f"}), "the plan holds an argument"),
    ],
)
def test_field_of_another_type(saved: Path, change: Callable[[dict], object], text: str) -> None:
    path = rewritten(saved, in_json(PLAN_FILE, change))

    assert refusal(path).startswith(text)


def test_output_structure_survives_without_its_source(tmp_path: Path) -> None:
    """A namedtuple comes back as one of its name and fields, constants where they stood."""
    network = co3d_compile.compile(Several(), CLIP)
    network.save(tmp_path / "cont.pt")
    video = torch.randn(1, 2, 9, 6, 6, generator=torch.Generator().manual_seed(3))
    expected = Several()(video)

    made = co3d_compile.load(tmp_path / "cont.pt")(video)

    assert made._fields == ("trunk", "more")
    assert torch.equal(made.trunk, expected.trunk)
    assert made.more["none"] is None
    assert made.more["scale"] == 2
    assert torch.equal(made.more["parts"][0], expected.more["parts"][0])
    assert [output.name for output in network.report.outputs] == [".trunk", ".more['parts'][0]"]


@dataclass
class Result:
    map: Tensor
    features: Tensor | None = None
    more: object = None


def test_a_dataclass_that_torch_takes_apart_comes_back_as_a_namedtuple(tmp_path: Path) -> None:
    class Returning(nn.Module):
        def forward(self, x: Tensor) -> dict:
            return {"result": Result(x + 1, more=[Result(x * 2), 3])}

    torch.export.register_dataclass(Result)
    network = co3d_compile.compile(Returning(), CLIP)
    network.save(tmp_path / "cont.pt")
    video = torch.randn(1, 2, 9, 6, 6, generator=torch.Generator().manual_seed(3))

    made = co3d_compile.load(tmp_path / "cont.pt")(video)["result"]

    assert made._fields == ("map", "features", "more")
    assert torch.equal(made.map, video + 1)
    assert made.features is None
    assert torch.equal(made.more[0].map, video * 2)
    assert made.more[1] == 3
    assert [output.name for output in network.report.outputs] == ["['result'].map", "['result'].more[0].map"]
    assert network.verify(Returning()).passed


def test_structure_of_no_known_kind(saved: Path) -> None:
    path = rewritten(saved, in_json(PLAN_FILE, lambda plan: plan["structure"].update(kind="ModelOutput")))

    assert refusal(path) == "plan.structure.kind: Kind expected, 'ModelOutput' found\n  try: compile the model again"
