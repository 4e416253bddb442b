"""`tpcgen explain SPEC --mask`: what of the square is full, partial or skipped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from tpcgen.cli import cli

ROOT = Path(__file__).parents[2]
BIND = "B=1,H=1,M=1100,N=2100,D=64,E=64"


def drawn(path: str, bind: str, *more: str) -> str:
    done = CliRunner().invoke(cli, ["explain", str(ROOT / path), "--dtype", "bf16", "--bind", bind, "--mask", *more])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("name", "path", "bind"),
    [
        ("causal", "examples/causal.dsl", BIND + ",G=1"),
        ("window", "examples/window.dsl", "B=1,H=1,N=2048,D=64,E=64,W=300"),
        ("long", "examples/window.dsl", "B=1,H=1,N=32768,D=64,E=64,W=1024"),
        ("linear", "examples/linear.dsl", "B=1,H=1,N=700,D=64,E=64"),
        ("document", "std/document.dsl", "B=1,H=1,N=600,D=64,E=64"),
        ("longformer", "std/longformer.dsl", "B=1,H=1,N=1000,D=64,E=64,W=200"),
        ("prefix", "std/prefix.dsl", "B=1,H=1,N=600,D=64,E=64"),
        ("full", "examples/full.dsl", BIND),
        ("scan", "examples/gated_linear.dsl", "B=1,H=1,N=600,D=64,E=64"),
    ],
)
def test_pictures(name, path, bind, golden):
    golden(drawn(path, bind), f"{name}.txt")


def test_the_svg_has_a_cell_per_tile(tmp_path):
    file = tmp_path / "mask.svg"
    text = drawn("examples/window.dsl", "B=1,H=1,N=2048,D=64,E=64,W=300", "--mask-svg", str(file))
    root = ET.fromstring(file.read_text())
    kinds = [r.get("class") for r in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(kinds) == 16 * 16
    assert f"{kinds.count('full')} full, {kinds.count('partial')} partial, {kinds.count('empty')} skipped" in text
