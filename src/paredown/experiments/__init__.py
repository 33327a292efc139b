"""The experiments behind the pages of results: `paredown experiment NAME`.

One module and one row here for each; the module ends in `EXPERIMENT = Experiment(...)`. It is imported when the
experiment is first asked for, since Keras takes seconds to load.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

from paredown.experiments.experiment import Experiment

#: Name on the command line (and of the page) -> module of this package that ends in EXPERIMENT.
MODULES: dict[str, str] = {
    "fc-sum": "fc_sum",
    "autoencoder": "autoencoder",
    "criteria": "criteria",
    "sparse-weights": "sparse_weights",
    "structures": "structures",
    "one-dimensional": "one_dimensional",
    "svd": "svd",
    "model-costs": "model_costs",
    "realized-speed-up": "realized_speed_up",
    "ef-operator": "ef_operator",
    "weight-sharing": "weight_sharing",
    "deep-compression": "deep_compression",
    "search": "search",
    "combine": "combine",
}


class _Experiments(Mapping[str, Experiment]):
    """`MODULES` with each module's experiment in its place; names alone import nothing."""

    def __getitem__(self, name: str) -> Experiment:
        return import_module(f"{__name__}.{MODULES[name]}").EXPERIMENT

    def __contains__(self, name: object) -> bool:
        return name in MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


EXPERIMENTS: Mapping[str, Experiment] = _Experiments()

__all__ = ["EXPERIMENTS", "Experiment"]
