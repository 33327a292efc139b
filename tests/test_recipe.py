"""Recipes are plain data: what goes to YAML comes back equal, and what is wrong is named."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown import Factorize, FineTune, PruneChannels, PruneWeights, Recipe, ShareWeights, SubstituteConv
from paredown.criteria import CRITERIA
from paredown.errors import OutputError, SettingError
from paredown.number_formats import FLOAT32, NAMES
from paredown.sparse import METHODS
from paredown.transforms import TRANSFORMS

shares = st.floats(0.01, 0.99)
budgets = st.one_of(
    st.fixed_dictionaries({"sparsity": shares}),
    st.fixed_dictionaries({"threshold": st.floats(-5, 5)}),
    st.fixed_dictionaries({"macs": shares}),
)
prunings = st.builds(
    lambda budget, **rest: PruneChannels(**budget, **rest),
    budgets,
    criterion=st.sampled_from(sorted(CRITERIA)),
    scope=st.sampled_from(["layer", "global"]),
    round_to=st.integers(1, 16),
    exclude=st.lists(st.text("abc_1", min_size=1), max_size=2).map(tuple),
)
zeros = st.one_of(
    st.fixed_dictionaries({"sparsity": shares, "pattern": st.sampled_from(["unstructured", "block 4"])}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["2:4", "1:4"])}),
)
sparse = st.builds(
    lambda budget, **rest: PruneWeights(**budget, **rest),
    zeros,
    method=st.sampled_from(sorted(METHODS)),
    scope=st.sampled_from(["layer", "global"]),
    include=st.lists(st.sampled_from(["dense", "conv", "depthwise"]), min_size=1, unique=True).map(tuple),
)
sharing = st.builds(
    lambda budget, **rest: ShareWeights(**budget, **rest),
    st.one_of(
        st.fixed_dictionaries({"k": st.integers(2, 256)}),
        st.fixed_dictionaries({"bits": st.sampled_from((1, 2, 3, 4, 5, 6, 8))}),
        st.fixed_dictionaries({"size": shares}),
    ),
    channels=st.none() | st.integers(1, 64),
    weighting=st.sampled_from([None, "hessian", "fisher"]),
    keep_zeros=st.booleans(),
    grid=st.sampled_from([None, "int8"]),
)
tunings = st.builds(
    FineTune,
    epochs=st.integers(1, 9),
    learning_rate=st.none() | st.floats(1e-6, 1),
    patience=st.none() | st.integers(1, 3),
    schedule=st.sampled_from(["constant", "cosine"]),
    keep_zeros=st.booleans(),
    keep_shared=st.booleans(),
)
mixed = st.dictionaries(st.sampled_from(("*", "conv", "block/scores")), st.sampled_from((FLOAT32, *NAMES)), min_size=1)
quantizations = st.one_of(st.sampled_from((None, *NAMES)), mixed)
recipes = st.builds(Recipe, st.lists(prunings | sparse | sharing | tunings, max_size=4), quantizations)


@given(recipes)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_yaml_round_trip(recipe):
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()


def test_save_and_load(tmp_path):
    recipe = Recipe([PruneChannels(macs=0.5), FineTune(epochs=3)], "int8")
    recipe.save(tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_yaml_says_only_what_differs_from_defaults():
    plain = yaml.safe_load(Recipe([PruneChannels(macs=0.5)]).to_yaml())
    assert plain == {"transforms": [{"prune_channels": {"macs": 0.5}}]}


def test_every_transform_has_its_recipe_name():
    assert all(kind.name == name for name, kind in TRANSFORMS.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transforms:\n  - prune_channels: {sparsity: 1.2}", r"sparsity must be in \[0, 1\)\. Received: sparsity=1\.2 \(transform 1, PruneChannels\)"),
        ("transforms:\n  - fine_tune\n  - prune_channels: {criterion: magic, macs: 0.5}", r"Received: criterion='magic' \(transform 2, PruneChannels\)"),
        ("transforms:\n  - prune_channels: {sparsity: half}", r"Received: sparsity='half' \(transform 1, PruneChannels\)"),
        ("transforms:\n  - prune_channels: {}", r"Exactly one of sparsity, threshold, macs, params, latency and widths must be given\. Received: none"),
        ("transforms:\n  - prune_channels: {sparsity: 0.5, macs: 0.5}", r"Received: \{'sparsity': 0\.5, 'macs': 0\.5\}"),
        ("transforms:\n  - prune_weights: {sparsity: 0.5, pattern: diagonal}", r"Received: pattern='diagonal' \(transform 1, PruneWeights\)"),
        ("transforms:\n  - prune_chanels: {sparsity: 0.5}", r"must be one of prune_channels, .*Received: 'prune_chanels' \(transform 1\)"),
        ("transforms:\n  - prune_channels: {sparcity: 0.5}", r"Received: 'sparcity' \(transform 1\)"),
        ("transforms:\n  - prune_channels: [0.5]", r"Received: \[0\.5\] \(transform 1\)|Received: 0\.5 \(transform 1\)"),
        ("transforms:\n  - {a: 1, b: 2}", r"one name with its settings\. Received: \{'a': 1, 'b': 2\} \(transform 1\)"),
        ("transforms: 7", r"transforms must be a list\. Received: int"),
        ("transfroms: []", r"Received: \['transfroms'\]"),
        ("just words", r"Received: str"),
        ("transforms: [}", r"must be YAML\. Received: a text with an error in line 1"),
        ("transforms: []\nexport: {quantization: int9}", r"quantization='int9'"),
        ("transforms: []\nexport: {quant: int8}", r"export has the keys quantization and pack\. Received: \{'quant': 'int8'\}"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(SettingError, match=message):
        Recipe.from_yaml(text)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(SettingError, match=r"Received: '.*nowhere\.yaml': No such file"):
        Recipe.load(tmp_path / "nowhere.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SettingError, match="it is not a text file"):
        Recipe.load(tmp_path / "picture.yaml")


def test_a_recipe_holds_transforms_only():
    with pytest.raises(SettingError, match=r"Received: 'prune' \(transform 1\)"):
        Recipe(["prune"])


def test_saving_into_a_missing_folder(tmp_path):
    with pytest.raises(OutputError, match=r"missing/r\.yaml"):
        Recipe().save(tmp_path / "missing" / "r.yaml")


def test_one_name_stands_for_a_list_of_one():
    plain = "transforms:\n- factorize: {kinds: svd, rank: 4, exclude: last}\n- substitute_conv: {structure: stacked, layers: c}"
    factorize, substitute = Recipe.from_yaml(plain).transforms
    assert factorize == Factorize(kinds=("svd",), rank=4, exclude=("last",))
    assert substitute == SubstituteConv("stacked", layers=("c",))
    with pytest.raises(
        SettingError, match=r"kinds must be of svd, spatial, .*kinds=\['low'\] \(transform 1, Factorize\)"
    ):
        Recipe.from_yaml("transforms:\n- factorize: {kinds: low, rank: 4}")
