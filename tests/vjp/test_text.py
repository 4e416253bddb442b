"""`tpcgen vjp`: gradients as specs, for every dtype at once; what has no gradient says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.std.library import FILES
from tests.vjp.test_gradients import EXAMPLES
from tpcgen.cli import cli
from tpcgen.diagnostics import DiagnosticError, render
from tpcgen.program import load, load_text
from tpcgen.rewrite.vjp import differentiable_inputs, vjp
from tpcgen.rewrite.vjp.text import gradients
from tpcgen.syntax.format import format_text

DIFFERENTIABLE = [*FILES, *EXAMPLES]


@pytest.mark.parametrize("file", DIFFERENTIABLE, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_the_text_of_a_file_is_its_gradient_at_every_dtype(file: Path) -> None:
    module = load(file)
    text = gradients(module, file.name)
    assert format_text(text, "text") == text
    again = load_text(text)
    assert again.ops == tuple(f"{op}_vjp" for op in module.ops)
    assert {op for c in again.checks for op in c.ops} == {f"{op}_vjp" for c in module.checks for op in c.ops}
    for op in module.ops:
        for dtype in ("bf16", "f32"):
            chosen = dict.fromkeys(module.dtype_variables(op), dtype)
            program = module.program(op, **chosen)
            assert again.program(f"{op}_vjp", **chosen) == vjp(program, differentiable_inputs(program))


@pytest.mark.parametrize("name", ["causal", "sinks", "gformer", "t5_bias", "gqa", "swin", "gated_linear"])
def test_printed(name: str, golden) -> None:
    (file,) = (f for f in FILES if f.stem == name)
    golden(gradients(load(file), file.name), "dsl")


def test_the_command_writes_what_the_file_asks_for(tmp_path: Path) -> None:
    spec, out = tmp_path / "f.dsl", tmp_path / "grad.dsl"
    spec.write_text(
        "op f(x: f32[N], z: f32[N], c: f32 = 2) -> y: f32[N] {\n y[i] = c * x[i] * z[i]\n}\n"
        "op g(x: f32[N]) -> y: f32[N] {\n y[i] = x[i]\n}\n\nvjp f wrt z\n\ncheck small { N = 4, c = 0.5 }\n"
    )
    done = CliRunner().invoke(cli, ["vjp", str(spec), "-o", str(out)])
    assert (done.exit_code, done.stdout) == (0, "")
    module = load(out)
    assert module.ops == ("f_vjp",)
    assert [t.name for t in module.program("f_vjp").outputs] == ["dz"]
    assert [c.values for c in module.checks] == [{"N": 4, "c": 0.5}]
    assert CliRunner().invoke(cli, ["vjp", str(spec)]).stdout == out.read_text()


WRONG = {
    "an input of conditions": (
        "op f(x: f32[N], keep: f32[N]) -> y: f32[N]\n{\n    y[i] = x[i] where keep[i] > 0\n}\n\nvjp f wrt x, keep\n",
        """\
f.dsl:6:1: error[E412]: keep has no gradient: conditions, indices and integers read it, and nothing else does
   |
 6 | vjp f wrt x, keep
   | ^^^^^^^^^^^^^^^^^
f.dsl:3:23: note: read here
   |
 3 |     y[i] = x[i] where keep[i] > 0
   |                       -------
  = help: leave it out of the vjp""",
    ),
    "a dtype that is meant twice": (
        "dtype T in bf16, f32\nop f(x: T[N], z: bf16[N]) -> y: T[N], w: f32[N]\n{\n    y[i] = x[i] * z[i]\n"
        "    w[i] = f32(x[i])\n}\n",
        "E415",
    ),
    "a rank at other indices": (
        "op f(x: f32[N]) -> y: f32[N]\n{\n    index i in 0 .. N\n    y[i] = x[N - 1 - i] where rank[i](x[i]) < 3\n}\n",
        "E413",
    ),
    "nothing real": ("op f(x: i32[N]) -> y: f32[N]\n{\n    y[i] = x[i] + 0.5\n}\n", "E412"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_has_no_gradient_says_why(what: str) -> None:
    text, expected = WRONG[what]
    with pytest.raises(DiagnosticError) as caught:
        gradients(load_text(text, "f.dsl"), "f.dsl")
    shown = "\n\n".join(render(d, {"f.dsl": text}) for d in caught.value.diagnostics)
    assert expected in shown
    assert len(caught.value.diagnostics) == 1


def test_a_presence_that_is_no_condition_is_refused() -> None:
    text = (
        "op f(x: f32[N], m: f32[N]) -> y: f32[N] {\n a[i] = m[i] where m[i] > 0\n"
        " index j in 0 .. N\n y[i] = default(sum[j where a[j] > 1 or x[j] > i](x[j]), m[i])\n}\n"
    )
    with pytest.raises(DiagnosticError, match="E414"):
        vjp(load_text(text).program("f"), ["x", "m"])
