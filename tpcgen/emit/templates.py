"""The Jinja environment of everything emitted: undefined names are errors, autoescaping is off, output is text."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import jinja2

_FOLDER = Path(__file__).parent.parent / "templates"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: object) -> str:
    """The template of that path under templates/, rendered."""
    return _environment().get_template(template).render(**values)
