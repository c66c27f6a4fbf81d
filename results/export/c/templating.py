"""Files of the package that are filled in: `@KEY@` stands for a value.

A line that begins with `@?KEY@` is there only if the value is true, and one with `@!KEY@` only if it is not.
"""

import re
from collections.abc import Mapping
from importlib.resources import files

#: The folder of the templates, and that of the kernels.
TEMPLATES, KERNELS = "templates", "kernels"


def read(folder: str, name: str) -> str:
    """A file of the package."""
    return files(__package__).joinpath(folder, *name.split("/")).read_text(encoding="utf-8")


def render(name: str, values: Mapping[str, object]) -> str:
    """A template with its values in.

    Args:
        name: The template's path in its folder.
        values: By key. A key that the template has and this has not is an error.
    """
    lines = []
    for line in read(TEMPLATES, name).splitlines():
        found = re.match(r"@([?!])([A-Z_]+)@(?: |$)", line)
        if found is None:
            lines.append(line)
        elif bool(values[found[2]]) == (found[1] == "?"):
            lines.append(line[found.end() :])
    return re.sub(r"@([A-Z][A-Z0-9_]*)@", lambda key: str(values[key[1]]), "\n".join(lines) + "\n")
