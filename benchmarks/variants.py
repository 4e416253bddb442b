"""What becomes of every variant of std/: writes docs/variants.md.

    python benchmarks/variants.py            # plans only, the errors of the page stay
    python benchmarks/variants.py --check    # also builds and checks each variant on the host device (bf16, gaudi2)

Per variant: lines of its text, then at three lengths the algorithm chosen for gaudi2 in bf16, its stages, multiply-adds
and bytes beside those of the program as written, predicted time, peak memory; last the worst error of the emitted code
at the sizes of its check block, as a share of the largest |truth|, beside device mode's own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError
from tpcgen.emit import artifact as emit
from tpcgen.kernel.cycles import stage_cost
from tpcgen.machine import MACHINES
from tpcgen.partition.choose import Choice, choose
from tpcgen.partition.plan import MmeStage, Plan, TpcStage
from tpcgen.partition.price import PlanPrice, price
from tpcgen.partition.table import duration
from tpcgen.program import Module, load
from tpcgen.program.ir import Program
from tpcgen.program.sizes import Binding, bind

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "variants.md"
ERRORS = ROOT / "docs" / "results" / "variants.json"
TARGET = "gaudi2"
LENGTHS = (256, 4096, 32768)
HEADS = {"B": 1, "H": 16, "G": 4, "D": 64, "E": 64, "F": 64, "L": 512, "W": 256, "P": 64, "left": 128, "right": 127}

HEAD = """# The variants of std/

Every file of `std/` is an attention variant written in the language, with a `check`. The tables say what the compiler
makes of it on a Gaudi 2 in bf16: {shapes}, other sizes as in the file's `check`; of Swin, as many windows of 8 by 8
as have the length together. Times are predictions of the cost model; nothing was measured on Gaudi. *As written* is
the program without rewrites, the square where there is one: its multiply-adds and bytes stand in brackets where
another algorithm was chosen. *Error* is the worst |y - truth| of the emitted code on the host device at the sizes of
`check`, over all families of inputs, as a share of the largest |truth| there; in brackets that of the interpreter
rounding where the program rounds.

Written by `python benchmarks/variants.py --check`.
"""


@dataclass(frozen=True)
class Row:
    op: str
    length: int
    choice: Choice
    written: PlanPrice | None


def variants() -> Iterator[tuple[Path, Module, str]]:
    for path in sorted((ROOT / "std").glob("*.dsl")):
        module = load(str(path))
        yield from ((path, module, op) for op in module.ops)


def program(module: Module, op: str) -> Program:
    return module.program(op, **dict.fromkeys(module.dtype_variables(op), "bf16"))


def sizes_at(module: Module, op: str, spec: Program, length: int) -> Binding:
    """M and N are the length, heads are those of HEADS, everything else is the check's."""
    own = {*spec.sizes, *(a.name for a in spec.attributes)}
    known = next(dict(c.values) for c in module.checks if op in c.ops)
    values: dict[str, int | float] = {k: v for k, v in known.items() if k in own}
    values |= {k: v for k, v in HEADS.items() if k in values}
    values |= {k: length for k in ("M", "N") if k in values}
    if "BS" in values:
        values["BS"] = 64
    if "Np" in values:
        values |= {"Np": length // 64, "Nb": length // 64}
    if {"X", "Y"} <= values.keys():  # as many windows of 8 by 8 as have the length together
        values |= {"X": 8, "Y": 8, "N": 64, "B": length // 64}
    if "start" in values:
        values["start"] = 0
    return bind(spec, values)


def rows(module: Module, op: str) -> Iterator[Row]:
    spec = program(module, op)
    for length in LENGTHS:
        binding = sizes_at(module, op, spec, length)
        choice = choose(spec, TARGET, binding, cost=stage_cost)
        yield Row(op, length, choice, _written(choice, spec, binding))


def _written(choice: Choice, spec: Program, binding: Binding) -> PlanPrice | None:
    """The price of the program without rewrites, None where it is what was chosen."""
    from tpcgen.partition.enumerate import enumerate_plans

    first = enumerate_plans(spec, TARGET)[0]
    if _algorithm(first) == _algorithm(choice.plan):
        return None
    try:
        return price(first, MACHINES[TARGET], binding, stage_cost)
    except DiagnosticError:
        return None


def _algorithm(plan: Plan) -> str:
    head, colon, _ = plan.label.partition(":")
    rewritten = colon or " of " in head
    return head if rewritten else "as written"


def lines(path: Path, op: str) -> int:
    """Of the op's text, comments and blank lines left out."""
    text = path.read_text().split(f"op {op}(", 1)[1]
    body = text[: text.index("\n}") + 2]
    return sum(1 for line in body.splitlines() if line.strip() and not line.strip().startswith("#"))


def _count(plan: Plan, kind: type) -> int:
    return sum(isinstance(s, kind) for s in plan.stages)


def _beside(own: int, written: int | None) -> str:
    return _si(own) if written is None else f"{_si(own)} ({_si(written)})"


def _si(value: float) -> str:
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} "


def checked(path: Path, op: str, folder: Path) -> str:
    """Builds and runs the op as emitted; the worst error beside device mode's, or what is in the way."""
    from tpcgen.check import check

    options = Options(target=TARGET, dtypes=("bf16",), ops=(op,), gradients=False)
    try:
        (compiled,) = compile_spec(path, options).ops
    except DiagnosticError as error:
        return f"not lowered: {error.diagnostics[0].id}"
    emit.write(folder / op, emit.files(compiled.artifact))
    result = check(compiled.artifact, folder / op, compiled.cases)
    failed = [o for o in result.outcomes if o.reason]
    if failed:
        return f"FAILED: {failed[0].reason}"
    shares = [(o.error / o.largest, o.device_error / o.largest) for o in result.outcomes if o.largest]
    worst, device = max(shares)
    return f"{worst:.2g} ({device:.2g})"


def page(errors: Mapping[str, str]) -> str:
    shapes = ", ".join(f"{k} = {v}" for k, v in HEADS.items())
    text = [HEAD.format(shapes=shapes)]
    columns = (
        "variant",
        "lines",
        "length",
        "algorithm",
        "stages",
        "MACs",
        "bytes",
        "time",
        "peak",
        "error (device mode)",
    )
    text += [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for path, module, op in variants():
        try:
            found = list(rows(module, op))
        except DiagnosticError as error:
            d = error.diagnostics[0]
            text.append(f"| {op} | {lines(path, op)} | | not lowered: {d.id}, {d.message[:60]} | | | | | | |")
            continue
        text += _rows(path, op, found, errors.get(op, ""))
    return "\n".join(text) + "\n"


def _rows(path: Path, op: str, found: Sequence[Row], error: str) -> Iterator[str]:
    for n, r in enumerate(found):
        p = r.choice.price
        name, count, worst = (op, str(lines(path, op)), error) if n == 0 else ("", "", "")
        stages = f"{_count(r.choice.plan, MmeStage)} MME, {_count(r.choice.plan, TpcStage)} TPC"
        written = r.written
        macs = _beside(p.macs, written.macs if written else None)
        traffic = _beside(p.traffic, written.traffic if written else None)
        cells = (name, count, str(r.length), _algorithm(r.choice.plan), stages, macs, traffic, duration(p.seconds))
        yield f"| {' | '.join((*cells, _si(p.peak) + 'B', worst))} |"


def main(arguments: Sequence[str]) -> None:
    errors: dict[str, str] = json.loads(ERRORS.read_text()) if ERRORS.exists() else {}
    if "--check" in arguments:
        with tempfile.TemporaryDirectory() as folder:
            for path, _, op in variants():
                errors[op] = checked(path, op, Path(folder))
                print(op, errors[op], flush=True)
                ERRORS.write_text(json.dumps(errors, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(errors))


if __name__ == "__main__":
    main(sys.argv[1:])
