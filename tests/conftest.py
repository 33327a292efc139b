"""For all tests: what is measured is kept in a folder of the session's own, not in the user's cache."""

import gc
import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes with a thread for every core each would stand in each other's way.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, "1")

#: Modules that take longest, longest first. They begin first, so that no process is left alone with one at the end.
LONGEST = (
    "test_equality test_backends test_real_networks test_experiments test_litert_equality test_search test_pipeline "
    "test_quantize_aware test_guide test_factorize test_search_workers test_scan test_applications test_prune_weights "
    "test_batch_norm test_features test_fine_tune test_docs test_random_networks test_criteria test_transforms "
    "test_network_latency test_operations test_browser_page test_search_report test_demo test_benchmarks"
).split()


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish():
    # What the imported modules hold stays to the end: looking through it for garbage takes a quarter of a second.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
