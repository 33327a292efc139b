"""Pruning and training on every backend of Keras: parts of the other tests, each backend in a process of its own.

All of these tests pass on every backend; these are chosen to take seconds where each new shape is compiled anew.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: Networks of the table that between them move, join, nest and share channels.
FEW = ("plain", "residual", "nested_twice", "separable", "reshaped", "squeeze_and_excitation")
PARTS = {
    "equality": [
        *(f"test_equality.py::test_pruned_equals_masked[{name}-l1]" for name in FEW),
        "test_equality.py::test_pruned_equals_masked[residual-apoz]",
        *(f"test_equality.py::test_identity_rebuild_is_bit_exact[{name}]" for name in FEW),
        "test_equality.py::test_result_saves_and_loads_with_plain_keras[residual]",
        "test_equality.py::test_same_seed_same_result[residual]",
        "test_random_networks.py",
        "test_blocks.py::test_shortcut_a_is_the_strided_identity_beside_zeros[5]",
        "test_blocks.py::test_a_linear_pair_is_a_convolution_of_its_rank",
    ],
    "learning": [
        "test_criteria.py::test_every_criterion_prunes",
        "test_criteria.py::test_removing_dead_channels_changes_nothing",
        "test_statistics.py::test_sums_equal_numpy_for_any_batch_size",
        "test_statistics.py::test_a_layer_that_is_called_twice_sees_both",
        "test_fine_tune.py::test_same_seed_same_weights",
        "test_fine_tune.py::test_frozen_layers_stay",
        "test_fine_tune.py::test_labels_and_teacher_together",
        "test_features.py::test_the_loss_holds_the_relative_distance",
        "test_features.py::test_nothing_else_of_training_changes",
        "test_sparse.py::test_a_layer_is_its_patches_times_its_matrices",
        "test_prune_weights.py::test_zeros_survive_training_to_the_bit[adamw]",
        "test_share_weights.py::test_sharing_survives_training_to_the_bit[adamw]",
        "test_share_weights.py::test_a_grid_survives_training",
        "test_share_weights.py::test_a_shared_value_learns_by_the_sum_of_its_members_gradients",
        "test_share_weights.py::test_fisher_is_the_mean_square_of_the_gradient_by_hand",
        "test_additive.py::test_the_slope_for_inputs_reaches_the_layers_before",
        "test_additive.py::test_what_is_substituted_proves_itself",
        "test_quantize_aware.py::test_rounded_values",
        "test_quantize_aware.py::test_gradients_pass_where_values_fit",
        "test_quantize_aware.py::test_nothing_moves_without_a_step[alone-int8]",
        "test_quantize_aware.py::test_statistics_stay_and_the_rest_learns",
        "test_twin.py::test_what_is_learned_comes_back_under_the_networks_own_layers",
    ],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_same_on(backend, part):
    done = run_on(backend, PARTS[part])
    assert (done.returncode, "skipped" in done.stdout) == (0, False), done.stdout + done.stderr


def test_training_on_several_devices():
    done = run_on("jax", ["jax_devices.py"], XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert (done.returncode, "skipped" in done.stdout) == (0, False), done.stdout + done.stderr


def run_on(backend, tests, **variables):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # Compiling is most of the time.
        "PAREDOWN_RANDOM_NETWORKS": "3",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **variables,
    }
    command = [sys.executable, "-m", "pytest", "-n", "0", "-rs", *tests]
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_nothing_imports_tensorflow_on(backend):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    code = (
        "import sys, pkgutil, importlib, paredown\n"
        "for module in pkgutil.walk_packages(paredown.__path__, 'paredown.'):\n"
        "    importlib.import_module(module.name)\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
