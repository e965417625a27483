"""Train the demo's classifier from a seed: ``python examples/train.py`` writes its ``weights.safetensors``."""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from moving_shapes.data import labelled_clips
from moving_shapes.model import FRAMES, SIZE, WEIGHTS, MovementNet

STEPS = 120
BATCH = 16


def train(steps: int = STEPS, *, seed: int = 0) -> MovementNet:
    """A classifier trained on clips that no step sees twice."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = MovementNet().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for step in range(steps):
        clips, labels = labelled_clips(BATCH, FRAMES, SIZE, generator)
        loss = torch.nn.functional.cross_entropy(model(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {loss.item():.3f}")
    return model.eval()


@torch.no_grad()
def accuracy(model: MovementNet, clips: Tensor, labels: Tensor) -> float:
    return (model(clips).argmax(1) == labels).float().mean().item()


def main() -> None:
    model = train()
    clips, labels = labelled_clips(100, FRAMES, SIZE, Generator().manual_seed(1000))
    print(f"accuracy on 100 other clips: {accuracy(model, clips, labels):.0%}")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, WEIGHTS)


if __name__ == "__main__":
    main()
