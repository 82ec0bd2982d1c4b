"""Reading and validating groups of params.yaml."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import Invalid, NotFound, nearest

PARAMS_FILE = Path("params.yaml")


class Group(BaseModel):
    """A frozen group of parameters; unknown keys are errors, values are not coerced between types.

    Fields have no defaults: params.yaml states every value in force; the docstring under a field says what it means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    gone: ClassVar[dict[str, str]] = {}
    """Keys that older files have, and what to do about each."""
    aside: ClassVar[frozenset[str]] = frozenset()
    """Keys that do not decide what is made, such as how long an object may take."""

    def deciding(self, *others: str) -> dict[str, Any]:
        """The values that decide what is made; `others` are keys that the caller's result does not depend on either."""
        return self.model_dump(exclude={*self.aside, *others})


class StageGroup(Group):
    """The parameters of one stage, under its name in params.yaml."""

    name: ClassVar[str]


GroupT = TypeVar("GroupT", bound=StageGroup)


def load_group(group: type[GroupT], overrides: Iterable[str] = (), path: Path = PARAMS_FILE) -> GroupT:
    """Read one group of `path`.

    `overrides` are `group.key=value` strings (values in YAML); those of other groups are ignored.
    Raises UserError that names the key, and the nearest known one, when something is unknown or ill-typed.
    """
    values = with_overrides(read_yaml(path), overrides)
    if group.name not in values:
        near = nearest(group.name, values)
        raise Invalid(f"{path} has no group `{group.name}`{near}; `partgen preset nano` writes a complete file.")
    return validate(group, values[group.name], f"{path}: {group.name}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError when it cannot be read."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(
            f"{path.parent.resolve()} is no project's folder, since it has no {path.name}; start in the folder of the "
            "project, of which `partgen preset nano` writes it."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise Invalid(f"{path} holds {type(values).__name__}, not groups; `partgen preset nano` restores it.")
    return values


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with `group.key=value` overrides applied; values are parsed as YAML."""
    result = _copy(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        *groups, last = key.strip().split(".")
        if not separator or not groups or not last:
            raise Invalid(f"`{override}` is not of the form group.key=value, e.g. render.samples=4.")
        target = result
        for depth, name in enumerate(groups):
            if not isinstance(target.get(name), dict):
                raise Invalid(f"`{override}`: no group `{'.'.join(groups[: depth + 1])}`{nearest(name, target)}.")
            target = target[name]
        if last not in target:
            raise Invalid(f"`{override}`: `{'.'.join(groups)}` has no key `{last}`{nearest(last, target)}.")
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise Invalid(f"`{override}`: `{text}` is not a YAML value.") from None
    return result


def validate(group: type[GroupT], values: Any, where: str) -> GroupT:
    """Build a group; UserError with the first offence, in one sentence."""
    if not isinstance(values, dict):
        raise Invalid(f"{where} must be a group of keys, not {values!r}.")
    try:
        return group.model_validate(values)
    except ValidationError as error:
        raise Invalid(f"{where}: {explain(group, error)}") from None


def explain(group: type[Group], error: ValidationError) -> str:
    """The first offence of a ValidationError as one sentence."""
    # Unknown keys first: a misspelt key is also a missing one, and the misspelling is what the user can mend.
    first = min(error.errors(), key=lambda offence: offence["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name, owner = str(first["loc"][-1]), _group_at(group, first["loc"][:-1])
        if owner is not None and name in owner.gone:
            return f"there is no key `{key}` any more; {owner.gone[name]}."
        return f"unknown key `{key}`{nearest(name, owner.model_fields if owner else ())}."
    if first["type"] == "missing":
        return f"the key `{key}` is missing; `partgen preset nano` writes a complete file."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"`{key}` is {first['input']!r}: {message}." if key else f"{message}."


def _group_at(group: type[Group], location: tuple[int | str, ...]) -> type[Group] | None:
    for part in location:
        annotation = group.model_fields[str(part)].annotation if str(part) in group.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Group)):
            return None
        group = annotation
    return group


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
