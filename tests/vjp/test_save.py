"""Row maxima and sums that a forward keeps: forward and gradient compute what they did, and the price decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError
from tpcgen.emit import artifact as emit
from tpcgen.interpreter import run
from tpcgen.program import load_text
from tpcgen.program import print as text
from tpcgen.rewrite.vjp import differentiable_inputs, vjp
from tpcgen.rewrite.vjp.save import saving

SPEC = """op f(Q: f32[H, N, D], K: f32[G, N, D], V: f32[G, N, E], snk: f32[H], W: int = 3) -> O: f32[H, N, E]
    where H % G == 0
{{
    S[h,q,k] = {score}
    P[h,q,k] = softmax[k where {domain}](S[h,q,k])
    O[h,q,e] = {out}
    {schedule}
}}
vjp f wrt Q, K, V
check small {{ H = 2, G = 1, N = 7, D = 3, E = 2 }}
"""
SCORE = "rsqrt(D) * sum[d](Q[h,q,d] * K[h // (H // G),k,d])"
OUT = "sum[k](P[h,q,k] * V[h // (H // G),k,e])"
FORMS = {
    "causal": {},
    "capped": {"score": f"5 * tanh({SCORE} / 5)"},
    "sink": {"domain": "k <= q sink snk[h]"},
    "no_keys": {"domain": "k < q - 2"},
    "no_keys_sink": {"domain": "q - W < k and k < q - 2 sink snk[h]"},
    "in_an_expression": {"out": f"1 + {OUT}"},
}


def spec(score=SCORE, domain="k <= q", out=OUT, schedule=""):
    return SPEC.format(score=score, domain=domain, out=out, schedule=schedule)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_what_is_kept_gives_the_same_gradient(name, scale):
    program = load_text(spec(**FORMS[name])).program("f")
    gradient = vjp(program, differentiable_inputs(program))
    made = saving(program, gradient)
    assert made is not None
    assert made.saved == ("P_max", "P_sum")
    shapes = {"Q": (4, 9, 3), "K": (2, 9, 3), "V": (2, 9, 2), "snk": (4,), "dO": (4, 9, 2)}
    rng = np.random.default_rng(0)
    given = {n: rng.standard_normal(s) * (scale if n in "QK" else 1) for n, s in shapes.items()}
    cotangent = {"dO": given.pop("dO")}
    outputs = run(made.forward, given, {})
    np.testing.assert_allclose(outputs["O"], run(program, given, {})["O"], rtol=1e-12, atol=1e-12)
    kept = {n: outputs[n] for n in made.saved}
    found, expected = run(made.gradient, given | kept | cotangent, {}), run(gradient, given | cotangent, {})
    for output in expected:
        np.testing.assert_allclose(found[output], expected[output], rtol=1e-9, atol=1e-9)
    for p in (made.forward, made.gradient):
        assert load_text(text.program(p)).program(p.name) == p


def test_an_op_without_softmax_keeps_nothing():
    program = load_text("op f(x: f32[N]) -> y: f32[N] { y[i] = tanh(x[i]) }").program("f")
    assert saving(program, vjp(program, ("x",))) is None


def test_a_pin_decides_else_the_price(tmp_path: Path):
    """At these sizes keeping is not worth it: the forward's kernel is slower than the gradient's is faster."""
    bind = {"H": 8, "G": 8, "N": 512, "D": 64, "E": 64, "W": 3}
    artifacts = {}
    for pin in ("", "schedule { save P rows; }", "schedule { save P nothing; }"):
        path = tmp_path / "f.dsl"
        path.write_text(spec(domain="k < N", schedule=pin))
        op = compile_spec(path, Options(binds=(bind,))).ops[0]
        artifacts[pin] = op.artifact
        told = [r.reason for c in op.choices[-1] for n, r in c.refused if "rows" in n]
        assert len(told) == ("nothing" not in pin), told
        assert all("rows of P are kept" in t for t in told)
    ops = {pin: [v.op for v in a.variants] for pin, a in artifacts.items()}
    assert ops[""] == ops["schedule { save P nothing; }"] == ["f", "f_vjp"]
    assert ops["schedule { save P rows; }"] == ["f", "f_saving", "f_vjp"]
    files = emit.files(artifacts["schedule { save P rows; }"])
    assert any("_sav_" in name for name in files)
    assert "f_saving_f32(" in files["f/__init__.py"]


def test_pins_of_what_is_no_softmax(tmp_path: Path):
    with pytest.raises(DiagnosticError, match="no softmax S again") as found:
        path = tmp_path / "f.dsl"
        path.write_text(spec(schedule="schedule { save S rows; }"))
        compile_spec(path, Options())
    assert "it does of: P" in str(found.value)
    with pytest.raises(DiagnosticError, match="save takes rows or nothing, not some"):
        load_text(spec(schedule="schedule { save P some; }"))
