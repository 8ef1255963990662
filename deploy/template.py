"""Reads CloudFormation templates, and joins a deployed one with the code of one unit from a new one. No AWS here."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import yaml

from deploy.units import UNITS, Unit

Template = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, such as `!Ref`."""


def _short_form(loader: _Loader, name: str, node: yaml.Node) -> Template:
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = node.value
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _short_form)


def load(text: str) -> Template:
    """Return a template from YAML (with or without short forms) or JSON, intrinsic functions in their long form."""
    found: Template = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader with CloudFormation's tags
    return found


def dump(template: Template) -> str:
    """Return a template as JSON."""
    return json.dumps(template, indent=1, sort_keys=True)


def with_code(deployed: Template, packaged: Template, unit: Unit, shift_from: Template | None = None) -> Template:
    """Return the deployed template with the code of one unit, function and layer, taken from a new one.

    How traffic moves to it comes along, or from `shift_from`: an earlier roll-back may have said "at once".
    """
    result = copy.deepcopy(deployed)
    _copy_code(packaged, result, unit)
    for shift, wanted in zip(_shifts(result, unit), _shifts(shift_from or packaged, unit), strict=False):
        shift["Type"] = wanted["Type"]
    return result


def without_code(packaged: Template, deployed: Template) -> Template:
    """Return the new template with the code that is deployed, wherever there is some."""
    result = copy.deepcopy(packaged)
    for unit in UNITS:
        _copy_code(deployed, result, unit)
    return result


def at_once(template: Template, unit: Unit) -> Template:
    """Return the template with all traffic of a unit moving at once."""
    result = copy.deepcopy(template)
    for shift in _shifts(result, unit):
        shift["Type"] = "AllAtOnce"
    return result


def _shifts(template: Template, unit: Unit) -> list[dict[str, Any]]:
    """Return the parts of a template that say how traffic of a unit moves."""
    functions = [template["Resources"].get(name, {}) for name, place in unit.code if place == "CodeUri"]
    found = [function.get("Properties", {}).get("DeploymentPreference") for function in functions]
    return [shift for shift in found if shift]


def _copy_code(source: Template, target: Template, unit: Unit) -> None:
    for logical_id, name in unit.code:
        if logical_id in source["Resources"] and logical_id in target["Resources"]:
            target["Resources"][logical_id]["Properties"][name] = source["Resources"][logical_id]["Properties"][name]


def parameters(
    template: Template, deployed: Mapping[str, str], overrides: Mapping[str, str]
) -> list[dict[str, str | bool]]:
    """Return the parameters of a change set: what is overridden, else what is deployed, else the default.

    Raises:
        LookupError: the template has no such parameter.
    """
    known = template.get("Parameters", {})
    if unknown := sorted(set(overrides) - set(known)):
        raise LookupError(f"the template has no parameter {unknown[0]}")
    changed = [{"ParameterKey": name, "ParameterValue": value} for name, value in overrides.items()]
    kept = [
        {"ParameterKey": name, "UsePreviousValue": True} for name in known if name in deployed and name not in overrides
    ]
    return [*changed, *kept]
