"""Renders one untrusted chat template in a process of its own, and says how that went.

Run as a script with a JSON object on stdin (`source`, `names`, `conversations`, `cpu_s`,
`memory_bytes`); prints the length of the longest rendering. Imports nothing of this distribution,
so that it starts in a fraction of a second. `template_trial` starts it and reads the outcome.
"""

import json
import re
import resource
import sys
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

_GENERATION_TAG = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""Marks of the assistant's text for training; they write nothing."""

_NOT_GIVEN = {"tools": None, "documents": None, "add_generation_prompt": False}
"""What templates ask for beside the messages, as transformers passes it."""


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def longest_rendering(
    source: str, names: dict[str, str], conversations: list[list[dict[str, str]]]
) -> int:
    """Characters of the longest conversation; those that the template refuses count as none."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals.update(raise_exception=_raise, strftime_now=lambda form: form)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    template = environment.from_string(_GENERATION_TAG.sub("", source))
    longest = 0
    for messages in conversations:
        variables: dict[str, Any] = {**names, **_NOT_GIVEN, "messages": messages}
        try:
            longest = max(longest, len(template.render(variables)))
        except TemplateError:
            continue
    return longest


def _main() -> None:
    order = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (order["cpu_s"], order["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"], order["memory_bytes"]))
    length = longest_rendering(order["source"], order["names"], order["conversations"])
    sys.stdout.write(str(length))


if __name__ == "__main__":
    _main()
