"""Rules that users bring: given to ``compile`` and ``load``, or found in installed packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import ArtifactError, Co3dError, ExtensionError, UnsupportedError
from co3d_compile.ops.flow import Flow, windowed
from co3d_compile.ops.operation import Call, Operation
from co3d_compile.ops.pointwise import Pointwise
from co3d_compile.ops.table import BUILT_IN, Origin, table_with
from co3d_compile.plan.encoding import decode_plan, encode_plan
from co3d_compile.testing.law import check_law

CLIP = (1, 2, 12, 4, 4)


@torch.library.custom_op("co3d_tests::weighted", mutates_args=())
def weighted(video: Tensor, weights: Tensor, stride: int = 1) -> Tensor:
    """Weighted sums of as many neighbouring elements as there are weights."""
    return (video.unfold(2, weights.numel(), stride) * weights).sum(-1)


@weighted.register_fake
def _(video: Tensor, weights: Tensor, stride: int = 1) -> Tensor:
    return video.unfold(2, weights.numel(), stride)[..., 0].contiguous()


@torch.library.custom_op("co3d_tests::fill", mutates_args=("video",))
def fill(video: Tensor) -> None:
    video.fill_(0.0)


class Weighted(Operation):
    targets = ("co3d_tests.weighted.default",)

    def flow(self, call: Call) -> Flow:
        (shape,) = call.shapes
        kernel = call["weights"].layout.shape[0]
        layout = call["video"].layout.with_time(shape[2])
        return windowed(layout, kernel=kernel, stride=call["stride"], dilation=1, before=0, after=0, fill=0.0)


class Filter(nn.Module):
    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.lift = nn.Conv3d(2, 3, 3, stride=(2, 1, 1), padding=1)
        self.weights = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
        self.stride = stride

    def forward(self, video: Tensor) -> Tensor:
        return weighted(self.lift(video), self.weights, self.stride).relu()


class Doubled(Pointwise):
    """Claims a target that is built in, and costs what no built-in rule says."""

    targets = ("aten.relu.default",)

    def macs(self, call: Call, flow: Flow) -> int:
        return 1000


class Unclaimed(Operation):
    def flow(self, call: Call) -> Flow:
        raise AssertionError


class Unknown(Weighted):
    targets = ("co3d_tests.wieghted.default",)


class Writing(Weighted):
    targets = ("co3d_tests.fill.default",)


def text_of(kind: type[Co3dError], what: object) -> str:
    with pytest.raises(kind) as caught:
        what()  # type: ignore[operator]
    return str(caught.value)


def test_a_custom_operator_obeys_the_law() -> None:
    check_law(Filter(), CLIP, lengths=(12, 13, 20), batch=2, ops=[Weighted()])


def test_a_custom_operator_is_verified_saved_and_loaded(tmp_path: Path) -> None:
    model = Filter()
    network = co3d_compile.compile(model, CLIP, ops=[Weighted()])
    network.save(tmp_path / "cont.pt")
    loaded = co3d_compile.load(tmp_path / "cont.pt", ops=[Weighted()])
    video = torch.randn(1, 2, 17, 4, 4)

    assert network.verify(model).passed
    assert loaded.verify(model).passed
    assert torch.equal(loaded(video), network(video))
    assert loaded.plan.own_rules == {"co3d_tests.weighted.default": Origin("tests.test_own_rules.Weighted")}


def test_a_given_rule_wins_over_the_built_in_one_where_it_is_given() -> None:
    model = nn.Sequential(nn.Conv3d(2, 2, 1), nn.ReLU())
    plain = co3d_compile.compile(model, CLIP)
    own = co3d_compile.compile(model, CLIP, ops=[Doubled()])

    assert own.plan.nodes[-1].macs == plain.plan.nodes[-1].macs + 1000
    assert list(own.plan.own_rules) == ["aten.relu.default"]
    assert plain.plan.own_rules == {}


def test_a_plan_of_built_in_rules_runs_by_them_whatever_is_given(tmp_path: Path) -> None:
    co3d_compile.compile(nn.ReLU(), CLIP).save(tmp_path / "cont.pt")

    loaded = co3d_compile.load(tmp_path / "cont.pt", ops=[Doubled()])

    assert loaded.operations == BUILT_IN


def test_the_rule_is_not_here_when_the_file_is_read(tmp_path: Path) -> None:
    co3d_compile.compile(Filter(), CLIP, ops=[Weighted()]).save(tmp_path / "cont.pt")

    assert text_of(ArtifactError, lambda: co3d_compile.load(tmp_path / "cont.pt")) == (
        "1 operator(s) were compiled with rules that are not here\n"
        "  co3d_tests.weighted.default: tests.test_own_rules.Weighted\n"
        "  try: give the rules: co3d_compile.load(path, ops=[...])"
    )


def test_a_built_in_rule_does_not_stand_in_for_one_of_the_users(tmp_path: Path) -> None:
    co3d_compile.compile(nn.ReLU(), CLIP, ops=[Doubled()]).save(tmp_path / "cont.pt")

    assert "aten.relu.default: tests.test_own_rules.Doubled" in text_of(
        ArtifactError, lambda: co3d_compile.load(tmp_path / "cont.pt")
    )


def test_a_plan_calls_an_own_operator_only_by_the_rule_it_was_compiled_with() -> None:
    network = co3d_compile.compile(Filter(), CLIP, ops=[Weighted()])
    written = json.loads(json.dumps(encode_plan(network.plan, network.operations)))
    written["own_rules"] = {}

    assert text_of(ArtifactError, lambda: decode_plan(written, network.operations)) == (
        "the plan calls 'co3d_tests.weighted.default', which is no operator that a compiled network may call\n"
        "  try: compile the model again, with this version"
    )


def test_no_rule_for_a_custom_operator() -> None:
    assert "co3d_tests.weighted: no rule for this operation" in text_of(
        UnsupportedError, lambda: co3d_compile.compile(Filter(), CLIP)
    )


@pytest.mark.parametrize(
    ("ops", "text"),
    [
        (
            [Weighted(), Weighted()],
            "co3d_tests.weighted.default is claimed by two of the rules in ops: tests.test_own_rules.Weighted and "
            "tests.test_own_rules.Weighted\n  try: give one of them",
        ),
        ([Weighted], "tests.test_own_rules.Weighted is a class, not a rule\n  try: Weighted()"),
        (
            ["Weighted"],
            "an object of type builtins.str is no rule\n"
            "  try: one of a class that derives from co3d_compile.ops.operation.Operation",
        ),
        (
            [Unclaimed()],
            "tests.test_own_rules.Unclaimed claims no target\n  try: targets = ('namespace.name.default',)",
        ),
        (
            [Unknown()],
            "tests.test_own_rules.Unknown claims 'co3d_tests.wieghted.default', which is no operator that torch knows\n"
            "  try: namespace.name.overload, such as aten.unfold.default, and import what defines it first",
        ),
        (
            [Writing()],
            "tests.test_own_rules.Writing claims co3d_tests.fill.default, which writes to what it reads; captured "
            "graphs hold no such calls\n  try: the operator that returns its result",
        ),
    ],
)
def test_what_is_no_rule(ops: list[Operation], text: str) -> None:
    assert text_of(ExtensionError, lambda: co3d_compile.compile(nn.ReLU(), CLIP, ops=ops)) == text


def installed(folder: Path, package: str, target: str, rule: str, source: str = "") -> None:
    """Puts a package's metadata, and its module, where an installer would."""
    metadata = folder / f"{package}-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(f"[co3d_compile.operations]\n{target} = {rule}\n")
    if source:
        (folder / f"{rule.partition(':')[0]}.py").write_text(source)


TARGET = "co3d_tests.weighted.default"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_rule_of_an_installed_package_is_found(site: Path) -> None:
    installed(site, "filters", TARGET, "tests.test_own_rules:Weighted")
    model = Filter()

    network = co3d_compile.compile(model, CLIP)
    network.save(site / "cont.pt")

    assert network.plan.own_rules == {TARGET: Origin("tests.test_own_rules.Weighted", "filters 1.2")}
    assert co3d_compile.load(site / "cont.pt").verify(model).passed


def test_the_package_is_not_installed_when_the_file_is_read(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(site / "there", "filters", TARGET, "tests.test_own_rules:Weighted")
    with monkeypatch.context() as there:
        there.syspath_prepend(site / "there")
        co3d_compile.compile(Filter(), CLIP).save(site / "cont.pt")

    assert text_of(ArtifactError, lambda: co3d_compile.load(site / "cont.pt")) == (
        "1 operator(s) were compiled with rules that are not here\n"
        "  co3d_tests.weighted.default: tests.test_own_rules.Weighted of the package filters 1.2\n"
        "  try: install filters 1.2, or give the rules: co3d_compile.load(path, ops=[...])"
    )


def test_a_broken_package_is_named_by_the_models_that_need_it_alone(site: Path) -> None:
    installed(site, "broken", TARGET, "broken_filters:Rule", "raise RuntimeError('no such device')")

    co3d_compile.compile(nn.ReLU(), CLIP)

    assert text_of(ExtensionError, lambda: co3d_compile.compile(Filter(), CLIP)) == (
        "co3d_tests.weighted.default: the rule broken_filters:Rule of the package broken 1.2 cannot be used: "
        "RuntimeError: no such device\n"
        "  try: mend or uninstall that package, or give a rule in its place: ops=[...]"
    )
    assert co3d_compile.compile(Filter(), CLIP, ops=[Weighted()]).plan.own_rules[TARGET].package == ""


def test_an_entry_point_is_named_like_its_target(site: Path) -> None:
    installed(site, "filters", TARGET, "tests.test_own_rules:Doubled")

    assert text_of(ExtensionError, lambda: co3d_compile.compile(Filter(), CLIP)) == (
        "co3d_tests.weighted.default: the package filters 1.2 names tests.test_own_rules.Doubled for it, which is a "
        "rule for aten.relu.default\n  try: tell its authors: an entry point is named like its target"
    )


def test_two_packages_claim_one_target(site: Path) -> None:
    installed(site, "filters", TARGET, "tests.test_own_rules:Weighted")
    installed(site, "others", TARGET, "tests.test_own_rules:Weighted")

    assert text_of(ExtensionError, lambda: co3d_compile.compile(Filter(), CLIP)) == (
        "co3d_tests.weighted.default is claimed by several packages: filters 1.2, others 1.2\n"
        "  try: uninstall all but one, or give the rule: ops=[...]"
    )


def test_what_a_rule_claims_is_not_rewritten_before_it_is_asked() -> None:
    """``view`` becomes ``reshape`` in a captured graph, unless someone has a rule for it."""

    class View(Pointwise):
        targets = ("aten.view.default",)

    class Model(nn.Module):
        def forward(self, video: Tensor) -> Tensor:
            return video.view(video.shape) * 2

    network = co3d_compile.compile(Model(), CLIP, ops=[View()])

    assert [node.target for node in network.plan.nodes] == ["aten.view.default", "aten.mul.Tensor"]


def test_a_table_is_a_value() -> None:
    assert table_with([]).only(()) == BUILT_IN
    assert BUILT_IN.rule_for("aten.relu.default") is not None
    assert BUILT_IN.rule_for("co3d_tests.weighted.default") is None
