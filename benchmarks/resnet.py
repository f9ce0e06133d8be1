"""A network of the size of ResNet-18, for pictures of 32 x 32 (He et al. 2015, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
BLOCKS_A_STAGE = 2


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, values: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        inside = functional.relu(self.first_norm(self.first(values)))
        inside = self.second_norm(self.second(inside))
        return functional.relu(inside + self.shortcut(values))


def resnet(classes: int = 10, *, width: float = 1.0) -> nn.Module:
    """11.2 million parameters at width 1; `width` scales the channels."""
    channels = [max(4, int(size * width)) for size, _ in STAGES]
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(),
    ]
    inputs = channels[0]
    for outputs, (_, stride) in zip(channels, STAGES, strict=True):
        for number in range(BLOCKS_A_STAGE):
            layers.append(Block(inputs, outputs, stride if number == 0 else 1))
            inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers)
