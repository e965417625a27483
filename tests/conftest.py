"""One thread: small tensors gain nothing from two, and spinning threads of busy machines lose a lot."""

import torch

torch.set_num_threads(1)
