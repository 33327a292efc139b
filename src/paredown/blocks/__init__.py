"""Building blocks of efficient networks as functions on Keras tensors, and what they cost.

    y = blocks.bottleneck(x, 256, name="stage2_1")
    cost = blocks.costs.bottleneck((28, 28, 256), 256)      # the same arguments, nothing built: MACs and parameters

To add a block: its function, the function of the same name in `costs`, and its row here; the contract tests then hold
one against the other, and prune and export it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paredown.blocks import costs, formulas
from paredown.blocks.additive import AdditiveConv2D, AdditiveDense
from paredown.blocks.convolutions import convolution, one_dimensional, separable
from paredown.blocks.costs import Cost
from paredown.blocks.inception import inception_v1, inception_v2, inception_v3
from paredown.blocks.residuals import basic, bottleneck, inverted_residual, residual
from paredown.blocks.resnets import resnet, resnet_cost
from paredown.blocks.widths import inception_widths


@dataclass(frozen=True)
class Block:
    """One row.

    Args:
        build: build(x, filters, ..., name=None) gives the block's output tensor.
        cost: cost(shape, filters, ...) with the same arguments, as far as they bear on the cost, gives a `Cost`.
    """

    build: Callable[..., Any]
    cost: Callable[..., Cost]


BLOCKS: dict[str, Block] = {
    "convolution": Block(convolution, costs.convolution),
    "one_dimensional": Block(one_dimensional, costs.one_dimensional),
    "separable": Block(separable, costs.separable),
    "inception_v1": Block(inception_v1, costs.inception_v1),
    "inception_v2": Block(inception_v2, costs.inception_v2),
    "inception_v3": Block(inception_v3, costs.inception_v3),
    "basic": Block(basic, costs.basic),
    "bottleneck": Block(bottleneck, costs.bottleneck),
    "residual": Block(residual, costs.residual),
    "inverted_residual": Block(inverted_residual, costs.inverted_residual),
}

__all__ = [
    "BLOCKS",
    "AdditiveConv2D",
    "AdditiveDense",
    "Block",
    "Cost",
    "basic",
    "bottleneck",
    "convolution",
    "costs",
    "formulas",
    "inception_v1",
    "inception_v2",
    "inception_v3",
    "inception_widths",
    "inverted_residual",
    "one_dimensional",
    "residual",
    "resnet",
    "resnet_cost",
    "separable",
]
