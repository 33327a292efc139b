"""Small named networks, one for each way in which channels can flow."""

import networks_branches
import networks_chains
import networks_custom
import networks_moved
import networks_sequence
from network_parts import NETWORKS, CrossChannel, conv, examples, head, image, randomize

#: The files that fill the table.
PARTS = (networks_chains, networks_branches, networks_moved, networks_custom, networks_sequence)

__all__ = ["NETWORKS", "PARTS", "CrossChannel", "conv", "examples", "head", "image", "randomize"]
