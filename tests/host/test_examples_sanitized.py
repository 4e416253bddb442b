"""What tpcgen emits for its examples, kernels and glue, under ASan and UBSan: no finding, and the right answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tpcgen import session
from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError
from tpcgen.toolchain.host import build

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.dsl"))


@pytest.mark.full
@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
@pytest.mark.parametrize("spec", EXAMPLES, ids=lambda path: path.stem)
def test_sanitized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: Path, target: str) -> None:
    built = []

    def sanitized(*arguments: object, **options: object) -> object:
        built.append(build(*arguments, **options, sanitize=True))
        return built[-1]

    monkeypatch.setattr("tpcgen.check.build", sanitized)
    try:
        compiled = compile_spec(spec, Options(target=target))
    except DiagnosticError as refused:
        assert {d.id[:2] for d in refused.diagnostics} == {"E4"}
        pytest.skip("not lowered yet")
    produce = partial(session.produce, build=False, check=True, eager=lambda: None, progress=print)
    for op in compiled.ops:
        done = produce(op, tmp_path)
        assert done.checked_now
        assert done.passed, session.summary([done])
    assert built
    assert all(library.sanitize for library in built)
