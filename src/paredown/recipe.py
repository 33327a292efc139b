"""A recipe: transforms in order and the number format of the export, as plain data."""

import dataclasses
import os
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml

from paredown.errors import SettingError
from paredown.files import write_text
from paredown.number_formats import Plan
from paredown.packed import check_form
from paredown.transform import Transform


@dataclass(frozen=True)
class Recipe:
    """What to do with a network, in order.

    Args:
        transforms: The transforms.
        quantization: Number format of the exported file: None (float32), "float16", "dynamic", "int8" or "int4"; or
            formats by layer, `{"*": "int8", "scores": "float32"}`.
        pack: Form of shared weights in the exported file: None, "ship", "run" or "auto"; float32 only.
    """

    transforms: Sequence[Transform] = ()
    quantization: Any = None
    pack: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "transforms", tuple(self.transforms))
        for number, transform in enumerate(self.transforms, 1):
            if not isinstance(transform, Transform):
                raise SettingError(
                    f"A recipe holds transforms. Received: {transform!r} (transform {number}). "
                    "Give PruneChannels(sparsity=0.5) and the like."
                )
        plan = Plan.of(self.quantization)
        if self.pack is not None and check_form(self.pack) and plan.formats:
            raise SettingError(
                f"pack is for float32 files. Received: pack={self.pack!r} with quantization={str(plan)!r} (export). "
                "Leave one of them out."
            )

    @staticmethod
    def load(path: str | os.PathLike) -> "Recipe":
        """Reads a recipe from a YAML file.

        Raises:
            SettingError: If the file is missing or is no recipe; names the transform and the field.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise SettingError(
                f"The recipe must be a readable YAML file. Received: {str(path)!r}: {reason}. "
                "Write one with Recipe([...]).save(path)."
            ) from error
        try:
            return Recipe.from_yaml(text)
        except SettingError as error:
            raise SettingError(f"{path}: {error}") from error

    @staticmethod
    def from_yaml(text: str) -> "Recipe":
        """The recipe that a YAML text describes; raises SettingError as `load` does."""
        plain = parse(text)
        transforms = [_transform(number, entry) for number, entry in enumerate(plain["transforms"], 1)]
        return Recipe(transforms, plain["export"].get("quantization"), plain["export"].get("pack"))

    def to_yaml(self) -> str:
        """The recipe as YAML: the settings that differ from their defaults."""
        plain: dict[str, Any] = {"transforms": [{t.name: _plain(t.settings())} for t in self.transforms]}
        export = {"quantization": self.quantization, "pack": self.pack}
        if any(export.values()):
            plain["export"] = {key: value for key, value in export.items() if value}
        return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=110)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the recipe to a YAML file, whole or not at all."""
        write_text(path, self.to_yaml())


def parse(text: str) -> dict[str, Any]:
    """The plain data of a recipe, its form checked but not its transforms: needs no Keras.

    Raises:
        SettingError: If the text is no YAML or has not the form of a recipe.
    """
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise SettingError(f"A recipe must be YAML. Received: a text with an error{where}: {problem}.") from error
    form = "Write `transforms:` and below it `- prune_channels: {sparsity: 0.5}`; `export: {quantization: int8}`."
    if not isinstance(plain, dict) or not set(plain) <= {"transforms", "export"} or "transforms" not in plain:
        keys = sorted(map(str, plain)) if isinstance(plain, dict) else type(plain).__name__
        raise SettingError(f"A recipe has the keys transforms and export. Received: {keys}. {form}")
    transforms, export = plain["transforms"] or [], plain.get("export") or {}
    if not isinstance(transforms, list):
        raise SettingError(f"transforms must be a list. Received: {type(transforms).__name__}. {form}")
    if not isinstance(export, dict) or not set(export) <= {"quantization", "pack"}:
        raise SettingError(f"export has the keys quantization and pack. Received: {export!r}. {form}")
    return {"transforms": transforms, "export": export}


def _transform(number: int, entry: Any) -> Transform:
    from paredown.transforms import TRANSFORMS

    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise SettingError(
            f"A transform is one name with its settings. Received: {entry!r} (transform {number}). "
            "Write `- prune_channels: {sparsity: 0.5}`."
        )
    ((name, settings),) = entry.items()
    if name not in TRANSFORMS:
        raise SettingError(
            f"A transform must be one of {', '.join(TRANSFORMS)}. Received: {name!r} (transform {number})."
        )
    kind, settings = TRANSFORMS[name], settings or {}
    _see_fields_known(kind, settings, number)
    try:
        return pydantic.TypeAdapter(kind).validate_python(settings)
    except SettingError as error:
        where = re.sub(r"\((\w+)\)\.", lambda found: _place(found, number), str(error), count=1)
        raise SettingError(where) from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        known = {f.name for one in (kind, *_nested(kind).values()) for f in dataclasses.fields(one)}
        field = ".".join(str(part) for part in first["loc"] if str(part) in known)
        raise SettingError(
            f"{field}: {first['msg']}. Received: {field}={first['input']!r} (transform {number}, {kind.__name__})."
        ) from error


def _see_fields_known(kind: type, settings: Any, number: int) -> None:
    """Raises at the first setting that a transform, or one within it, does not have."""
    fields = [f.name for f in dataclasses.fields(kind)]
    unknown = [key for key in settings if key not in fields] if isinstance(settings, dict) else [settings]
    if unknown:
        raise SettingError(
            f"{kind.__name__} has the settings {', '.join(fields)}. Received: {unknown[0]!r} (transform {number})."
        )
    for field, inner in _nested(kind).items():
        _see_fields_known(inner, settings.get(field) or {}, number)


def _nested(kind: type) -> dict[str, type]:
    """Field -> class, for the fields of a transform that hold a transform."""
    hints = typing.get_type_hints(kind)
    return {
        f.name: hints[f.name]
        for f in dataclasses.fields(kind)
        if isinstance(hints[f.name], type) and issubclass(hints[f.name], Transform)
    }


def _place(found: re.Match, number: int) -> str:
    """The class that an error names in brackets, with the number of the recipe's transform before it."""
    from paredown.transforms import TRANSFORMS

    names = {kind.__name__ for kind in TRANSFORMS.values()}
    return f"(transform {number}, {found[1]})." if found[1] in names else found[0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
