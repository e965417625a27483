"""Passes that users bring: what they may do, and what is found when they do something else."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

import co3d_compile
from co3d_compile.errors import ExtensionError, InputError
from co3d_compile.program.program import Program, target_name
from co3d_compile.testing.law import check_law

CLIP = (1, 2, 8, 4, 4)

aten = torch.ops.aten


class Mirrored(nn.Module):
    """Turned over time, filtered frame by frame, and turned back: the two flips are what cannot be streamed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1))
        self.mix = nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, video: Tensor) -> Tensor:
        return self.mix(self.conv(video.flip(2)).flip(2))


def calls(program: Program, target: str) -> list[fx.Node]:
    return [node for node in program.calls if target_name(node) == target]


def drop_flips(program: Program) -> Program:
    """Everything between the two treats frames alone."""
    for flip in calls(program, "aten.flip.default"):
        flip.replace_all_uses_with(flip.args[0])
        program.graph.erase_node(flip)
    return program


def split_filters(program: Program) -> Program:
    """A convolution without its bias, which is added after it: nodes of the pass's own, and a weight read anew."""
    for conv in calls(program, "aten.conv3d.default"):
        source, weight, bias, *rest = conv.args
        with program.graph.inserting_after(conv):
            added = program.graph.call_function(aten.add.Tensor, (conv,))
            shaped = program.graph.call_function(aten.view.default, (bias, [-1, 1, 1, 1]))
        conv.replace_all_uses_with(added, delete_user_cb=lambda user, added=added: user is not added)
        added.args = (conv, shaped)
        added.prepend(shaped)
        conv.args = (source, weight, None, *rest)
    return program


def scale(program: Program) -> Program:
    (output,) = program.output_nodes
    with program.graph.inserting_after(output):
        scaled = program.graph.call_function(aten.mul.Tensor, (output, 1.5))
    output.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)
    return program


def test_a_pass_makes_streamable_what_was_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Mirrored()

    network = check_law(model, CLIP, lengths=(8, 9, 15), passes=[drop_flips])

    assert network.plan.passes == ("tests.test_own_passes.drop_flips",)
    assert network.verify(model).passed


def test_several_passes_run_in_order_and_may_add_nodes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Mirrored()

    network = check_law(model, CLIP, lengths=(8, 9, 15), passes=[drop_flips, split_filters])

    assert network.plan.passes == ("tests.test_own_passes.drop_flips", "tests.test_own_passes.split_filters")
    assert [node.path for node in network.plan.nodes] == ["conv", "conv", "mix", "mix"]
    assert network.verify(model).passed


def test_an_exported_program_is_its_own_oracle_without_the_passes() -> None:
    torch.manual_seed(0)
    exported = torch.export.export(Mirrored().eval(), (torch.randn(CLIP),))

    assert co3d_compile.compile(exported, CLIP, passes=[drop_flips, split_filters]).verify(exported).passed


def test_new_weights_reach_what_a_pass_computes_from_them() -> None:
    torch.manual_seed(0)
    model, other = Mirrored(), Mirrored()
    network = co3d_compile.compile(model, CLIP, passes=[drop_flips, split_filters])
    video = torch.randn(1, 2, 11, 4, 4)

    network.load_state_dict(other.state_dict())

    torch.testing.assert_close(network(video), other(video))


def test_a_file_holds_the_names_of_the_passes(tmp_path: Path) -> None:
    model = Mirrored()
    network = co3d_compile.compile(model, CLIP, passes=[drop_flips])
    network.save(tmp_path / "cont.pt")
    loaded = co3d_compile.load(tmp_path / "cont.pt")

    with pytest.raises(InputError) as caught:
        loaded.verify(model)

    assert str(caught.value) == (
        "the network was compiled with the passes tests.test_own_passes.drop_flips, not (none)\n"
        "  try: verify(model, passes=[...]) with those"
    )
    assert loaded.verify(model, passes=[drop_flips]).passed


def test_what_a_pass_changes_is_given_in_numbers() -> None:
    class Brightness(nn.Module):
        def forward(self, video: Tensor) -> Tensor:
            return video.clamp(0, 2)

    assert refusal(scale, Brightness()) == (
        "the pass tests.test_own_passes.scale changes output 0 by 1, of up to 2\n"
        "  try: a pass may change how something is computed, not what"
    )


def refusal(own: Callable[[Program], object], model: nn.Module | None = None) -> str:
    with pytest.raises(ExtensionError) as caught:
        co3d_compile.compile(model or Mirrored(), CLIP, passes=[drop_flips, own])  # type: ignore[list-item]
    return str(caught.value)


def fails(program: Program) -> Program:
    raise KeyError("conv9")


def forgets(program: Program) -> None:
    drop_flips(program)


def breaks(program: Program) -> Program:
    """Reads a node before it is made."""
    first, second = calls(program, "aten.conv3d.default")
    first.args = (second, *first.args[1:])
    return program


def renames(program: Program) -> Program:
    return replace(program, inputs=tuple(replace(given, name="clip") for given in program.inputs))


def returns_twice(program: Program) -> Program:
    (output,) = program.graph.find_nodes(op="output")
    output.args = ((*output.args[0], *output.args[0]),)
    return program


def returns_none(program: Program) -> Program:
    (output,) = program.graph.find_nodes(op="output")
    output.args = ((),)
    return program


def calls_python(program: Program) -> Program:
    for conv in calls(program, "aten.conv3d.default"):
        with program.graph.inserting_after(conv):
            made = program.graph.call_function(operator.neg, (conv,))
        made.meta = dict(conv.meta)
    return program


def writes(program: Program) -> Program:
    (output,) = program.output_nodes
    with program.graph.inserting_after(output):
        program.graph.call_function(aten.relu_.default, (output,))
    return program


def invents(program: Program) -> Program:
    with program.graph.inserting_before(next(program.calls)):
        program.graph.get_attr("conv.scale")
    return program


def prunes(program: Program) -> Program:
    return replace(program, tensors=dict(program.tensors) | {"conv.bias": torch.zeros(3)})


def spoils(program: Program) -> Program:
    program.tensors["conv.bias"].add_(1)
    return program


def misshapes(program: Program) -> Program:
    first, _ = calls(program, "aten.conv3d.default")
    with program.graph.inserting_before(first):
        source = program.graph.call_function(aten.permute.default, (first.args[0], [0, 2, 1, 3, 4]))
    first.args = (source, *first.args[1:])
    return program


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (fails, "fails fails: KeyError: 'conv9'\n  try: mend it, or leave it out"),
        (forgets, "forgets returns an object of type NoneType, not a program\n  try: return the program"),
        (breaks, "breaks leaves a broken graph: Argument 'conv3d_1' of Node 'conv3d' was used before"),
        (renames, "renames changes the inputs\n  try: leave the placeholders as they are"),
        (returns_twice, "returns_twice returns 2 output(s) of 1\n  try: leave the output node in place"),
        (returns_none, "returns_none returns 0 output(s) of 1\n  try: leave the output node in place"),
        (calls_python, "calls_python calls <built-in function neg> in neg, which is no operator that only returns"),
        (writes, "writes calls aten.relu_.default in relu__default, which is no operator"),
        (invents, "invents reads conv.scale, which the program does not hold\n  try: add it to program.tensors"),
        (prunes, "prunes changes the weight conv.bias\n  try: compute in the graph what is made of weights"),
        (spoils, "spoils changes the weight conv.bias\n  try: compute in the graph what is made of weights"),
        (misshapes, "misshapes leaves a graph that fails: Given groups=1, weight of size [3, 2, 1, 3, 3], expected"),
    ],
)
def test_what_a_pass_must_not_do(own: Callable[[Program], Program], text: str) -> None:
    told = refusal(own)

    assert told.startswith(f"the pass tests.test_own_passes.{text}")
    assert "\n  try: " in told


def test_what_cannot_be_called() -> None:
    assert refusal("drop_flips") == (  # type: ignore[arg-type]
        "the pass builtins.str cannot be called\n  try: a function that takes a program and returns one"
    )


def test_a_pass_runs_on_shapes_alone() -> None:
    """On the meta device there are no numbers to compare, and the form is still checked."""
    with torch.device("meta"):
        model = Mirrored()
    clip = torch.empty(CLIP, device="meta")

    assert co3d_compile.compile(model, clip, passes=[drop_flips]).plan.passes
    with pytest.raises(ExtensionError, match="misshapes leaves a graph that fails"):
        co3d_compile.compile(model, clip, passes=[drop_flips, misshapes])
