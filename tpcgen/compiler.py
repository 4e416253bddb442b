"""A spec -> artifacts: every op at every wanted dtype planned, lowered and named. Nothing is written or run here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError, Severity, file_label
from tpcgen.emit.artifact import Artifact, KernelText, Variant
from tpcgen.emit.glue import GlueKernel
from tpcgen.emit.names import Direction, guid
from tpcgen.kernel.access import access_patterns
from tpcgen.kernel.cycles import stage_cost
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.kernel.tpc_c import render
from tpcgen.machine import Machine, machines
from tpcgen.partition import keep
from tpcgen.partition.balance import Balanced, balance
from tpcgen.partition.cards import Cards, own_sizes
from tpcgen.partition.choose import Choice
from tpcgen.partition.plan import TpcStage
from tpcgen.partition.price import PlanPrice
from tpcgen.partition.tune import Tuned, tune
from tpcgen.program import Module, load, sizes
from tpcgen.program.dtypes import DType
from tpcgen.program.hints import did_you_mean
from tpcgen.program.ir import Binary, Contract, Literal, Program
from tpcgen.rewrite.alternatives import Alternative
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.unsupported import lacks
from tpcgen.rewrite.vjp import vjp
from tpcgen.rewrite.vjp.in_chunks import gradients_in_chunks
from tpcgen.rewrite.vjp.in_steps import sums_in_steps
from tpcgen.rewrite.vjp.save import Saving, kept_by_pin, saving
from tpcgen.version import VERSION

Values = Mapping[str, int | float]


@dataclass(frozen=True)
class Options:
    """What the user chose.

    `binds`: sizes and attributes to tune for; `dtypes`: DTYPE or VARIABLE=DTYPE, all where empty; `ops`: names of the
    ops wanted, all where empty; `defines`: values of params and defaults of attributes; `machines`: a file of machine
    data, that of $TPCGEN_MACHINES where None; `cards`: plan for one of several cards that share the sizes given, where
    not None; `gradients`: with those that the file's vjp items ask for.
    """

    target: str = "gaudi2"
    prefix: str = "tpcgen"
    binds: tuple[Values, ...] = ()
    defines: Values = field(default_factory=dict[str, "int | float"])
    dtypes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    machines: Path | None = None
    cards: Cards | None = None
    gradients: bool = True


@dataclass(frozen=True)
class Case:
    """Sizes and attributes an op is tuned for and checked at: `name` is "bind" or a check block's."""

    name: str
    values: Values


@dataclass(frozen=True)
class CompiledOp:
    """`choices` and `kernels` per variant: a choice for each of its tuned sizes, kernels in the order of their texts.

    `cases`: where to check; none when no sizes are known. `specs`: file names to paths.
    """

    artifact: Artifact
    cases: tuple[Case, ...]
    choices: tuple[tuple[Choice, ...], ...]
    kernels: tuple[tuple[Kernel, ...], ...]
    specs: Mapping[str, Path]


@dataclass(frozen=True)
class Compiled:
    """`warnings` are the front end's, for the user to see."""

    ops: tuple[CompiledOp, ...]
    warnings: tuple[Diagnostic, ...]


def compile_spec(path: Path, options: Options) -> Compiled:
    """Compile the ops of a file. DiagnosticError for whatever is wrong with the file or the options."""
    known, module = _opened(path, options)
    try:
        ops = tuple(_op(module, op, path, options, known) for op in wanted_ops(module, options.ops))
    except sizes.EvaluationError as error:
        raise _error("E316", f"{error}: the sizes given are too large") from error
    warnings = [d for d in module.warnings if d.severity is not Severity.NOTE]
    return Compiled(ops, (*warnings, *_skipped(module, [op.artifact.name for op in ops])))


def wanted_ops(module: Module, wanted: Sequence[str]) -> tuple[str, ...]:
    """The module's ops, only those wanted where any are. DiagnosticError E529 for one that is not there."""
    for name in wanted:
        if name not in module.ops:
            hint = did_you_mean(name, module.ops) or f"the ops are {', '.join(module.ops)}"
            raise _error("E529", f"the file has no op {name}", hint)
    return tuple(op for op in module.ops if op in wanted) if wanted else tuple(module.ops)


def _opened(path: Path, options: Options) -> tuple[Mapping[str, Machine], Module]:
    known = machines(options.machines)
    if options.target not in known:
        raise _error("E528", f"no device is called {options.target}", f"the devices are {', '.join(known)}")
    module = load(path, params=options.defines)
    if not module.ops:
        raise _error("E523", f"{path} defines no op")
    _known_names(module, options.binds)
    return known, module


def _op(module: Module, op: str, path: Path, options: Options, known: Mapping[str, Machine]) -> CompiledOp:
    device = replace(options, target=known[options.target].name)  # whose kernels: a user's device is like one of ours
    programs = list(_programs(module, op, options))
    _, first = programs[0]
    if not first.inputs:
        message = f"op {op} has no input tensor, by which PyTorch knows where it runs"
        raise DiagnosticError((Diagnostic("E429", message, first.outputs[0].span, "give it a tensor to read"),))
    cases = _cases(module, first, options)
    wanted = next((v for v in module.vjps if v.op == op and options.gradients), None)
    backward = [(dtype, vjp(p, wanted.inputs, wanted.span)) for dtype, p in programs] if wanted is not None else []
    tuned = [c.values for c in (cases[: len(options.binds)] or cases)]
    machine = known[options.target]

    def tuned_for(program: Program, given: Sequence[Alternative] = ()) -> tuple[Tuned, ...]:
        bound = [sizes.bind(program, v) for v in tuned]
        return tune(program, options.target, bound, cost=stage_cost, known=known, given=given)

    made: list[_Planned] = [_Planned("fwd", dtype, tuned_for(p)) for dtype, p in programs]
    gradients: list[_Planned] = []
    if wanted is not None:
        for (dtype, p), (_, gradient) in zip(programs, backward, strict=True):
            given = (*gradients_in_chunks(p, gradient, wanted.inputs, wanted.span), *sums_in_steps(gradient))
            gradients.append(_Planned("bwd", dtype, tuned_for(gradient, given)))
    savings = [saving(p, g) for (_, p), (_, g) in zip(programs, backward, strict=bool(backward))]
    kept, gradients, saved = _kept(made, gradients, savings, machine, tuned_for, programs[0][1])
    choices: list[tuple[Choice, ...]] = []
    kernels: list[tuple[Kernel, ...]] = []
    variants: list[Variant] = []
    for planned in (*made, *kept, *gradients):
        for chosen in planned.plans:
            stages = [stage for stage in chosen.plan.stages if isinstance(stage, TpcStage)]
            lowered = [compile_stage(stage, op, planned.dtype, device, planned.direction) for stage in stages]
            choices.append(chosen.choices)
            kernels.append(tuple(kernel for kernel, _ in lowered))
            texts = tuple(text for _, text in lowered)
            predicted = tuple(_predicted(choice.price) for choice in chosen.choices)
            variants.append(
                Variant(planned.dtype, chosen.plan, texts, predicted, tuple(b.values for b in chosen.bindings))
            )
    wrt = wanted.inputs if wanted is not None else ()
    artifact = Artifact(
        op,
        device.target,
        options.prefix,
        file_label(str(path)),
        VERSION,
        tuple(variants),
        wrt,
        saved,
        tuple(backward) if saved else (),
    )
    specs = {file_label(file): Path(file) for file in module.sources}
    return CompiledOp(artifact, cases, tuple(choices), tuple(kernels), specs)


@dataclass(frozen=True)
class _Planned:
    direction: Direction
    dtype: str
    plans: tuple[Tuned, ...]

    def at(self, binding: Mapping[str, object]) -> Choice:
        """The choice at sizes and attributes that plans were tuned for."""
        return next(c for t in self.plans for b, c in zip(t.bindings, t.choices, strict=True) if b.values == binding)


def _kept(
    forward: Sequence[_Planned],
    gradients: Sequence[_Planned],
    savings: Sequence[Saving | None],
    machine: Machine,
    tuned_for: Callable[[Program], tuple[Tuned, ...]],
    program: Program,
) -> tuple[list[_Planned], list[_Planned], tuple[str, ...]]:
    """Forwards that keep rows for the gradient, where that is worth its price or pinned, the gradients then, and the
    names of what is kept; the reports of the gradients say what it would take otherwise.
    """
    found = [s for s in savings if s is not None]
    if len(found) < len(gradients) or not found:
        return [], list(gradients), ()
    prices: dict[str, list[keep.Kept]] = {}
    for s, f, g in zip(found, forward, gradients, strict=True):
        bindings = [b for t in f.plans for b in t.bindings]
        again = [(b, f.at(b.values), g.at(b.values)) for b in bindings]
        prices[f.dtype] = keep.priced(s, again, machine, stage_cost)
    saves = kept_by_pin(program) or keep.is_worth([x for own in prices.values() for x in own])
    made: list[_Planned] = []
    planned = list(gradients)
    if saves:
        made = [_Planned("sav", f.dtype, tuned_for(s.forward)) for s, f in zip(found, forward, strict=True)]
        planned = [_Planned("bwd", f.dtype, tuned_for(s.gradient)) for s, f in zip(found, forward, strict=True)]
    name = "computing rows again" if saves else "saving of rows"
    told = [_told(g, name, prices[g.dtype], found[0].weights) for g in planned]
    return made, told, found[0].saved if saves else ()


def _told(planned: _Planned, name: str, prices: Sequence[keep.Kept], weights: Sequence[str]) -> _Planned:
    """With the price of what was not chosen in the report of each choice."""
    left = iter(prices)
    plans = [
        replace(
            t,
            choices=tuple(
                replace(c, refused=(*c.refused, (name, Refused(next(left).text(weights))))) for c in t.choices
            ),
        )
        for t in planned.plans
    ]
    return replace(planned, plans=tuple(plans))


def balances(
    path: Path,
    options: Options,
    attribute: str,
    limits: tuple[int, int] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Balanced]:
    """How fast every op of a file that has the attribute is at each of its values, one per dtype and sizes to tune for
    (those of the first check block where none are given). DiagnosticError: E540 where no op has it, what
    `partition.balance` raises, whatever is wrong with the file or the options.
    """
    known, module = _opened(path, options)
    ops = wanted_ops(module, options.ops)
    programs = [(op, dtype, p) for op in ops for dtype, p in _programs(module, op, options)]
    own = [x for x in programs if any(a.name == attribute for a in x[2].attributes)]
    made: list[Balanced] = []
    for op, dtype, program in own or programs[:1]:
        for values in _tuned_values(module, program, options.binds):
            rest = {n: v for n, v in values.items() if n != attribute}
            machine = known[options.target]
            found = balance(program, machine, rest, attribute, limits, cost=stage_cost, progress=progress)
            made.append(Balanced(op, dtype, options.target, rest, found))
    return made


def _tuned_values(module: Module, program: Program, binds: Sequence[Values]) -> list[Values]:
    names = {*program.sizes, *(a.name for a in program.attributes)}
    blocks = [c.values for c in module.checks if program.name in c.ops]
    return [_own(values, names) for values in binds or blocks[:1] or [{}]]


def _predicted(price: PlanPrice) -> dict[str, object]:
    """Seconds of the cost model."""
    stages = [{"name": s.name, "engine": s.engine, "seconds": s.seconds, "bound": s.bound} for s in price.stages]
    return {"seconds": price.seconds, "peak_bytes": price.peak, "stages": stages}


def compile_stage(
    stage: TpcStage, op: str, dtype: str, options: Options, direction: Direction = "fwd"
) -> tuple[Kernel, KernelText]:
    """The kernel of a stage, and its text with what the glue says of it. DiagnosticError E4xx for what is not lowered,
    E510 and E511 for a GUID that cannot be."""
    name = guid(options.prefix, op, stage.name, dtype, direction)
    kernel = lower(stage, target=options.target, name=name)
    glue = GlueKernel(
        name,
        _with_room(stage.program, kernel),
        kernel.tensors,
        kernel.scalars,
        kernel.index_space,
        access_patterns(kernel, stage.program),
    )
    return kernel, KernelText(stage, glue, render(kernel))


def _with_room(program: Program, kernel: Kernel) -> Program:
    """The program with what local memory demands of its sizes as contracts."""
    demands = (Binary("<=", a.used, Literal(a.rows, DType.I32)) for a in kernel.arrays)
    return replace(program, contracts=(*program.contracts, *(Contract(d, ()) for d in dict.fromkeys(demands))))


def _programs(module: Module, op: str, options: Options) -> Iterator[tuple[str, Program]]:
    """(label, program) of each choice of dtypes that is wanted."""
    variables = module.dtype_variables(op)
    allowed = {name: _allowed(name, choices, options) for name, choices in variables.items()}
    _used_dtypes(module, options.dtypes)
    if not variables:
        program = module.program(op)
        yield str(program.outputs[0].dtype), program
        return
    for choice in itertools.product(*allowed.values()):
        yield "_".join(choice), module.program(op, **dict(zip(variables, choice, strict=True)))


def _allowed(variable: str, choices: Sequence[str], options: Options) -> list[str]:
    """What was asked for, else what the target has."""
    wanted = options.dtypes
    given = [dtype for name, equals, dtype in (w.partition("=") for w in wanted) if equals and name == variable]
    anywhere = [w for w in wanted if "=" not in w]
    if not given and not anywhere:
        return [c for c in choices if not lacks(options.target, DType(c))] or list(choices)
    kept = [c for c in choices if c in given or (not given and c in anywhere)]
    if not kept:
        raise _error("E524", f"{variable} is {' or '.join(choices)}, never {', '.join(given or anywhere)}")
    return kept


def _used_dtypes(module: Module, wanted: Sequence[str]) -> None:
    variables = {name: choices for op in module.ops for name, choices in module.dtype_variables(op).items()}
    for item in wanted:
        name, equals, dtype = item.rpartition("=")
        known = variables.get(name, ()) if equals else {c for choices in variables.values() for c in choices}
        if dtype not in known:
            hint = (
                "; ".join(f"{v} in {', '.join(c)}" for v, c in variables.items()) or "the file has no dtype variables"
            )
            raise _error("E524", f"--dtype {item} chooses nothing", hint)


def _cases(module: Module, program: Program, options: Options) -> tuple[Case, ...]:
    """--bind where given, then the check blocks that bind the op, if any; only names the op has, contracts checked.

    Where cards share the sizes, --bind alone where given: check blocks were not written to be shared.
    """
    own = {*program.sizes, *(a.name for a in program.attributes)}
    bound = [Case("bind", _own(values, own)) for values in options.binds]
    blocks = [Case(c.name, _own(c.values, own)) for c in module.checks if program.name in c.ops]
    cases = bound if bound and options.cards is not None else [*bound, *blocks]
    return tuple(Case(c.name, _bound(program, c.values, options.cards)) for c in cases)


def _bound(program: Program, values: Values, cards: Cards | None) -> Values:
    whole = sizes.bind(program, values).values
    return whole if cards is None else sizes.bind(program, own_sizes(program, whole, cards)).values


def _own(values: Values, names: set[str]) -> Values:
    return {name: value for name, value in values.items() if name in names}


def _known_names(module: Module, binds: Sequence[Values]) -> None:
    names: dict[str, None] = {}
    for op in module.ops:
        program = module.program(op)
        names |= dict.fromkeys((*program.sizes, *(a.name for a in program.attributes)))
    for name in itertools.chain.from_iterable(binds):
        if name not in names:
            hint = did_you_mean(name, names) or f"the sizes and attributes are {', '.join(names)}"
            raise _error("E526", f"--bind {name}: no op of the file has a size or attribute of that name", hint)


def _skipped(module: Module, ops: Sequence[str]) -> Iterator[Diagnostic]:
    for check in module.checks:
        for op in ops:
            if op not in check.ops:
                message = f"check {check.name} does not bind every size and attribute of {op}: skipped"
                yield Diagnostic("W520", message, NOWHERE, severity=Severity.NOTE)


def _error(id: str, message: str, hint: str = "") -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, NOWHERE, hint),))
