"""THE table of what a scan tries. To add a method: one module that ends in a `Method`, and its row here."""

from paredown.scan import factorize, prune, quantize, share, substitute
from paredown.scan.case import Method

METHODS: dict[str, Method] = {
    prune.NAME: prune.METHOD,
    factorize.NAME: factorize.METHOD,
    substitute.NAME: substitute.METHOD,
    share.NAME: share.METHOD,
    quantize.NAME: quantize.METHOD,
}
