"""Backbones of the user's own, named `package.module:function`."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from ...core.errors import InputError
from ...core.registry import one_line
from .heads import check_classes
from .info import BackboneInfo, Normalisation

#: Side of the images of a network that does not say its own, in pixels.
DEFAULT_INPUT_SIZE = 224


def build_custom(name: str, num_classes: int) -> nn.Module:
    """Call the user's function and return the module that it makes.

    Args:
        name: `package.module:function`; the module is imported, as naming it asks for.
        num_classes: Passed by this name to a function that takes it; any other must make as many outputs by itself.

    Raises:
        InputError: The module or function is missing or fails, or what it returns is no `nn.Module` of so many outputs.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise InputError(f"backbone {name!r}: a backbone of your own is named package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(f"backbone {name!r}: importing {module_name} failed: {error}") from error
        raise InputError(f"backbone {name!r}: there is no module {error.name}; add its folder to PYTHONPATH") from error
    except Exception as error:  # whatever the user's code raises is the user's to mend
        raise InputError(f"backbone {name!r}: importing {module_name} failed: {one_line(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"backbone {name!r}: {module_name} has no function {function_name}")
    return call_builder(f"backbone {name!r}", function, num_classes)


def call_builder(backbone: str, function: Callable[..., Any], num_classes: int) -> nn.Module:
    """The module that someone else's function makes.

    Args:
        backbone: What messages call it.
        function: Makes the module; it is given the number of classes by the name `num_classes` if it takes that.
        num_classes: Outputs of the head.

    Raises:
        InputError: The function fails, or returns no `nn.Module`, or one of another number of outputs.
    """
    called = getattr(function, "__name__", type(function).__name__)
    try:
        takes_classes = "num_classes" in inspect.signature(function).parameters
        model = function(num_classes=num_classes) if takes_classes else function()
    except Exception as error:  # whatever the user's code raises is the user's to mend
        raise InputError(f"{backbone}: {called} failed: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{backbone}: {called} returned {type(model).__name__}, no nn.Module")
    check_classes(model, num_classes, backbone)
    return model


def declared_info(model: nn.Module, info: BackboneInfo) -> BackboneInfo:
    """The facts of a user's backbone, as its attributes `input_size` and `normalisation` declare them.

    Raises:
        InputError: An attribute is not what it should be.
    """
    from pydantic import TypeAdapter, ValidationError

    size = getattr(model, "input_size", info.input_size or DEFAULT_INPUT_SIZE)
    if not isinstance(size, int) or size < 1:
        raise InputError(f"backbone {info.name!r}: its input_size is {size!r}, no number of pixels")
    declared = getattr(model, "normalisation", info.normalisation)
    try:
        normalisation = TypeAdapter(Normalisation).validate_python(declared)
    except ValidationError as error:
        raise InputError(
            f"backbone {info.name!r}: its normalisation is {declared!r}, not three means and three deviations"
        ) from error
    return replace(info, input_size=size, normalisation=normalisation)
