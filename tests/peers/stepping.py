"""``continual-inference``: networks of its containers, with the weights of a plain one."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.peers.agreement import Answer

co = pytest.importorskip("continual")


def with_weights(peer: nn.Module, model: nn.Module) -> nn.Module:
    """The peer in eval mode with the weights of a model whose layers stand in the same order."""
    weights = model.state_dict().values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library calls state_dict in a way that torch warns of
        peer.load_state_dict(dict(zip(peer.state_dict(), weights, strict=True)))
    return peer.eval()


def stepped(peer: Any, video: Tensor) -> Answer:
    """One frame at a time; a step without an answer gives a placeholder."""
    with torch.no_grad():
        came = [(tick, peer.forward_step(frame)) for tick, frame in enumerate(video.unbind(2))]
    answers = [(tick, answer) for tick, answer in came if isinstance(answer, Tensor)]
    elements = [answer for _, answer in answers]
    return Answer(torch.stack(elements, 2) if elements else video.new_zeros(0), [tick for tick, _ in answers])


def flushed(peer: Any, video: Tensor) -> Tensor:
    """Every element, those after the last frame too: the library pads each layer at its end."""
    peer.clean_state()
    with torch.no_grad():
        answer: Tensor = peer.forward_steps(video, pad_end=True)
    return answer
