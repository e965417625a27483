"""A model from ``package.module:factory`` and weights for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from co3d_compile.errors import ModelFileError

SHOWN = 5


def build_model(factory: str) -> nn.Module:
    """What the factory returns.

    Raises:
        ModelFileError: it is not found, not callable, fails, or returns something else than a module.
    """
    make = _found(factory)
    if not callable(make):
        raise ModelFileError(
            f"{factory}: an object of type {type(make).__name__} cannot be called\n"
            "  try: a function or class that makes the model"
        )
    try:
        model = make()
    except Exception as failure:  # the user's code may raise anything
        raise ModelFileError(
            f"{factory}: fails when called without arguments: {type(failure).__name__}: {failure}\n"
            "  try: a function without arguments that makes the model"
        ) from failure
    if not isinstance(model, nn.Module):
        raise ModelFileError(
            f"{factory}: returns an object of type {type(model).__name__}, not a torch.nn.Module\n"
            "  try: a function without arguments that makes the model"
        )
    return model


def fill_weights(model: nn.Module, weights: Mapping[str, Tensor], *, path: str, factory: str) -> None:
    """Load the weights, all of them and no others.

    Raises:
        ModelFileError: names or shapes differ; says which.
    """
    wanted = model.state_dict()
    reasons = [
        *_listed("missing", sorted(wanted.keys() - weights.keys())),
        *_listed("unexpected", sorted(weights.keys() - wanted.keys())),
        *_listed("of another shape", _reshaped(wanted, weights)),
    ]
    if reasons:
        raise ModelFileError(
            f"{path}: these are not the weights of {factory}\n  " + "\n  ".join(reasons) + f"\n  try: {_hint(weights)}"
        )
    model.load_state_dict(dict(weights))


def _found(factory: str) -> Callable[[], Any] | Any:
    module_name, separator, name = factory.partition(":")
    if not separator or not module_name or not name:
        raise ModelFileError(f"{factory!r} names no factory\n  try: package.module:factory")
    try:
        found: Any = import_module(module_name)
    except Exception as failure:  # importing runs the user's code
        raise ModelFileError(
            f"{factory}: {module_name} cannot be imported: {type(failure).__name__}: {failure}\n"
            "  try: run from the folder that holds it, or install it"
        ) from failure
    for place in name.split("."):
        if not hasattr(found, place):
            raise ModelFileError(
                f"{factory}: {module_name} has no {name}\n  try: a function or class in it that makes the model"
            )
        found = getattr(found, place)
    return found


def _reshaped(wanted: Mapping[str, Any], weights: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(weights[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & weights.keys())
        if tuple(weights[name].shape) != tuple(wanted[name].shape)
    ]


def _listed(kind: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{more}"]


def _hint(weights: Mapping[str, Tensor]) -> str:
    if weights and all(name.startswith("module.") for name in weights):
        return "save model.module.state_dict(): these were saved from a DataParallel wrapper"
    return "the factory that made the model when the weights were saved"
