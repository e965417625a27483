"""The operation table: from a target's name to its rule. A user's own rules win over the built-in ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint

from co3d_compile.errors import ExtensionError
from co3d_compile.ops.adaptive import AdaptivePool
from co3d_compile.ops.along_axis import AlongAxis
from co3d_compile.ops.cells import Cell, RecurrentLayer
from co3d_compile.ops.columns import Columns
from co3d_compile.ops.complex_numbers import Pairs
from co3d_compile.ops.convolution import Convolution
from co3d_compile.ops.distances import Distances
from co3d_compile.ops.einsum import Einsum
from co3d_compile.ops.factories import Filled
from co3d_compile.ops.fourier import Fourier
from co3d_compile.ops.installed import installed_points, installed_rule, package_of
from co3d_compile.ops.joining import Cat, Stack
from co3d_compile.ops.lookup import Lookup
from co3d_compile.ops.matrices import Matrices
from co3d_compile.ops.mixing import Mixing
from co3d_compile.ops.normalization import BatchNorm, GroupNorm, LayerNorm
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.own import require_rule, rule_name
from co3d_compile.ops.padding import Pad, PadByContent
from co3d_compile.ops.picking import Picking
from co3d_compile.ops.points import IndexPut
from co3d_compile.ops.pointwise import LearnedSlope, Pointwise, is_pointwise
from co3d_compile.ops.pooling import AveragePool, MaxPool
from co3d_compile.ops.products import Linear, MatrixProduct
from co3d_compile.ops.recurrence import Recurrence
from co3d_compile.ops.reduction import Reduction
from co3d_compile.ops.resampling import PixelShuffle, RepeatInterleave, Upsample
from co3d_compile.ops.running import Running
from co3d_compile.ops.running_norm import Normed, RunningMoments
from co3d_compile.ops.scattering import Scatter
from co3d_compile.ops.shape import BurstView, Expand, Permute, Repeat, Squeeze, Transpose, Unsqueeze, View
from co3d_compile.ops.slicing import IndexSelect, Select, Slice, Split
from co3d_compile.ops.transposed_convolution import TransposedConvolution
from co3d_compile.ops.unfolding import Unfold
from co3d_compile.ops.unpooling import MaxPoolWithPlaces, MaxUnpool
from co3d_compile.ops.warping import GridSample
from co3d_compile.ops.windows import Window
from co3d_compile.options import require_list

RULES: tuple[Operation, ...] = (
    Convolution(),
    TransposedConvolution(),
    MaxPool(),
    AveragePool(),
    AdaptivePool(),
    Reduction(),
    LearnedSlope(),
    BatchNorm(),
    LayerNorm(),
    GroupNorm(),
    AlongAxis(),
    Linear(),
    MatrixProduct(),
    Einsum(),
    Matrices(),
    Distances(),
    Fourier(),
    Pairs(),
    Lookup(),
    View(),
    BurstView(),
    Permute(),
    Transpose(),
    Squeeze(),
    Unsqueeze(),
    Expand(),
    Repeat(),
    Cat(),
    Stack(),
    Slice(),
    Select(),
    Split(),
    IndexSelect(),
    Scatter(),
    Picking(),
    IndexPut(),
    Pad(),
    PadByContent(),
    Filled(),
    Upsample(),
    RepeatInterleave(),
    PixelShuffle(),
    MaxPoolWithPlaces(),
    MaxUnpool(),
    Unfold(),
    Columns(),
    GridSample(),
    Window(),
    Cell(),
    RecurrentLayer(),
    Recurrence(lambda target: _built_in_rule(target)),  # noqa: PLW0108
    Mixing(),
    Running(),
    RunningMoments(),
    Normed(),
)

POINTWISE = Pointwise()
_BY_TARGET = {target: rule for rule in RULES for target in rule.targets}


@dataclass(frozen=True)
class Origin:
    """Where a rule that is not built in comes from.

    Attributes:
        rule: the class, with its module.
        package: name and version of the installed package that brought it; empty for one that was given.
    """

    rule: str
    package: str = ""

    def __str__(self) -> str:
        return f"{self.rule} of the package {self.package}" if self.package else self.rule


@dataclass(frozen=True)
class OperationTable:
    """The rules that a network is compiled and run with: what was given, what is installed, what is built in.

    An installed rule is imported when a model calls its target, no sooner.

    Attributes:
        given: by target.
        installed: by target.
    """

    given: Mapping[str, Operation] = field(default_factory=dict)
    installed: Mapping[str, Sequence[EntryPoint]] = field(default_factory=dict)

    def rule_for(self, target: str) -> Operation | None:
        """The rule for a target such as ``aten.conv3d.default``; None if there is none.

        Raises:
            ExtensionError: an installed package claims the target, and its rule cannot be used.
        """
        return self._own_rule(target) if self.is_own(target) else _built_in_rule(target)

    def is_own(self, target: str) -> bool:
        """The rule for it is not built in."""
        return target in self.given or target in self.installed

    def origins(self, targets: Iterable[str]) -> dict[str, Origin]:
        """Where the rules that are not built in come from, by target."""
        return {target: self._origin(target) for target in sorted(set(targets)) if self.is_own(target)}

    def only(self, targets: Iterable[str]) -> OperationTable:
        """The table in which the rules for these targets alone are not built in."""
        return OperationTable({target: self._own_rule(target) for target in targets if self.is_own(target)})

    def _own_rule(self, target: str) -> Operation:
        return self.given[target] if target in self.given else installed_rule(target, self.installed[target])

    def _origin(self, target: str) -> Origin:
        package = "" if target in self.given else package_of(self.installed[target][0])
        return Origin(rule_name(self._own_rule(target)), package)


BUILT_IN = OperationTable()


def table_with(ops: Sequence[Operation]) -> OperationTable:
    """The built-in rules, those of installed packages, and these, which win over both.

    Raises:
        ExtensionError: one is no rule, claims no operator of torch's, or claims what another one of these does.
        InputError: they are no list.
    """
    require_list("ops", ops, "[MyOperation()]")
    given: dict[str, Operation] = {}
    for rule in ops:
        require_rule(rule)
        for target in rule.targets:
            if target in given:
                raise ExtensionError(
                    f"{target} is claimed by two of the rules in ops: {rule_name(given[target])} and "
                    f"{rule_name(rule)}\n  try: give one of them"
                )
            given[target] = rule
    return OperationTable(given, installed_points())


def _built_in_rule(target: str) -> Operation | None:
    found = _BY_TARGET.get(target)
    if found is None and target.startswith("aten.") and is_pointwise(target):
        return POINTWISE
    return found
