"""The command line: compile, check, package, run, vjp, explain, fmt, devices.

Exit status: 0 done, 1 a check failed, 2 bad input, 3 a toolchain failed, 70 a bug of tpcgen. Results go to standard
output, progress and diagnostics to standard error. Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError, read_sources, render
from tpcgen.kernel_commands import conformance_command, run_command
from tpcgen.version import VERSION

if TYPE_CHECKING:
    from tpcgen.check import Eager
    from tpcgen.compiler import Compiled, Options
    from tpcgen.session import Produced

CHECK_FAILED, BAD_INPUT, TOOLCHAIN_FAILED, INTERNAL_ERROR = 1, 2, 3, 70
TARGETS = ("gaudi", "gaudi2", "gaudi3")
MACHINES_HELP = "TOML file that changes or adds machine data; $TPCGEN_MACHINES otherwise."

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _sizes_and_dtypes(command: _Command) -> _Command:
    """Options of every command that plans a spec."""
    for decorate in (
        click.option("--op", "ops", multiple=True, metavar="NAME", help="Only this op of the file."),
        click.option("--dtype", "dtypes", multiple=True, metavar="[VARIABLE=]DTYPE", help="Only this dtype."),
        click.option("-D", "defines", multiple=True, metavar="NAME=VALUE", help="A param, an attribute's default."),
        click.option(
            "--bind",
            "binds",
            multiple=True,
            metavar="B=1,H=12,...",
            help="Sizes to tune for, and to check or explain at.",
        ),
    ):
        command = decorate(command)
    return command


def _compile_options(command: _Command) -> _Command:
    """Options of every command that compiles a spec."""
    decorators = (
        click.argument("spec", type=click.Path(path_type=Path)),
        click.option("--target", type=click.Choice(TARGETS), default="gaudi2", show_default=True, help="Device."),
        _sizes_and_dtypes,
        click.option("--prefix", default="tpcgen", show_default=True, help="First part of every GUID."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output."),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit status: 0 done, 1 a check failed, 2 bad input, 3 a toolchain failed, 70 a bug of tpcgen.",
)
@click.version_option(VERSION, prog_name="tpcgen")
def cli() -> None:
    """Attention operators for Intel Gaudi from mathematics: kernels, glue, PyTorch operators, checked."""


@cli.command("compile", short_help="Compile a spec, build it and check it.")
@_compile_options
@click.option("-o", "out", type=click.Path(path_type=Path), default=Path("build"), show_default=True, help="Folder.")
@click.option("--emit", type=click.Choice(("program", "plan", "kernel", "c")), help="Print that and write nothing.")
@click.option("--no-build", is_flag=True, help="Compile nothing for the device, even where tpc-clang is.")
@click.option("--no-check", is_flag=True, help="Do not run what was emitted.")
def compile_command(
    spec: Path, out: Path, emit: str | None, no_build: bool, no_check: bool, as_json: bool, **options: Any
) -> None:
    """Compile SPEC into one artifact per operator under the folder of -o, build it and check it."""
    from tpcgen import session

    if emit is not None and as_json:
        raise click.UsageError("--emit prints text: it does not go with --json")
    compiled = _compile(spec, _options(**options))
    if emit is not None:
        click.echo(session.stage_text(compiled, emit), nl=False)
        return
    done = _produce(compiled, out, build=not no_build, check=not no_check, quiet=as_json)
    click.echo(session.to_json(done) if as_json else session.summary(done), nl=False)
    sys.exit(0 if all(p.passed for p in done) else CHECK_FAILED)


@cli.command("check", short_help="Compile a spec, run it, judge it; leave nothing behind.")
@_compile_options
def check_command(spec: Path, as_json: bool, **options: Any) -> None:
    """Compile SPEC, run it on the host device and judge it against the interpreter. Nothing is left behind."""
    import tempfile

    from tpcgen.report import results

    compiled = _compile(spec, _options(**options))
    with tempfile.TemporaryDirectory(prefix="tpcgen-") as scratch:
        done = _produce(compiled, Path(scratch), build=False, check=True, quiet=as_json)
        found = {p.op.artifact.name: p.result for p in done if p.result is not None}
    click.echo(results.to_json(found) if as_json else "\n".join(map(results.to_text, found.values())), nl=False)
    sys.exit(0 if all(p.passed for p in done) else CHECK_FAILED)


@cli.command("package", short_help="Make a wheel of each operator of a spec.")
@_compile_options
@click.option("-o", "out", type=click.Path(path_type=Path), default=Path("dist"), show_default=True, help="Folder.")
def package_command(spec: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Compile SPEC, check it, and make one wheel per operator in the folder of -o: kernels, glue, registration, and a
    self-test that runs when NAME.selftest is imported. No wheel is made of what fails its check.
    """
    import json
    import tempfile

    from tpcgen import session
    from tpcgen.report import results

    compiled = _compile(spec, _options(**options))
    with tempfile.TemporaryDirectory(prefix="tpcgen-") as scratch:
        done = _produce(compiled, Path(scratch), build=True, check=True, quiet=as_json)
        if not all(p.passed for p in done):
            click.echo("\n".join(results.to_text(p.result) for p in done if p.result is not None), nl=False)
            sys.exit(CHECK_FAILED)
        wheels = [str(session.package(p, out)) for p in done]
    click.echo(json.dumps({"wheels": wheels}, indent=2) if as_json else "\n".join(f"wrote {w}" for w in wheels))


@cli.command("vjp", short_help="Write the gradients of a spec's operators, as a spec.")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("-D", "defines", multiple=True, metavar="NAME=VALUE", help="A param, an attribute's default.")
@click.option("-o", "out", type=click.Path(path_type=Path), help="File; standard output where not given.")
def vjp_command(spec: Path, defines: Sequence[str], out: Path | None) -> None:
    """Write the gradients of SPEC: an operator NAME_vjp for each `vjp` of the file.

    Without one, of every operator with respect to all its inputs that have a gradient.
    """
    from tpcgen.diagnostics import file_label
    from tpcgen.program import load
    from tpcgen.rewrite.vjp.text import gradients

    module = load(spec, params=_values("-D", defines))
    _show(module.warnings)
    text = gradients(module, file_label(str(spec)))
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out, text)


@cli.command(short_help="Explain the plans of a spec, or a diagnostic, as in E104.")
@click.argument("what", metavar="SPEC|ID")
@click.option("--target", default="gaudi2", show_default=True, help="Device: one of ours or of --machines.")
@_sizes_and_dtypes
@click.option("--machines", type=click.Path(path_type=Path), help=MACHINES_HELP)
@click.option("--trace", type=click.Path(path_type=Path), help="Also write a trace for ui.perfetto.dev there.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write one HTML page there.")
@click.option(
    "--cards", type=click.IntRange(2), help="Plan for one of so many cards of a box, and price what it sends."
)
@click.option(
    "--share", type=click.Choice(("heads", "sequence")), default="heads", show_default=True, help="By --cards."
)
@click.option("--heads", default="H", show_default=True, metavar="SIZE", help="Counts the heads, for --cards.")
@click.option("--sequence", default="M,N", show_default=True, metavar="SIZES", help="Count the sequence, for --cards.")
@click.option("--mask", is_flag=True, help="Draw the tiles of the op's domains instead: full, partial, skipped.")
@click.option("--mask-svg", type=click.Path(path_type=Path), help="Also write that drawing as SVG there.")
def explain(what: str, **options: Any) -> None:
    """Explain the plans of a SPEC (a .dsl file) or the diagnostic ID, as in E104.

    For a SPEC: per stage what it computes, how long it takes by which formula and what binds it; the totals; what was
    rejected; the schedule that keeps the plan.
    """
    if what.endswith(".dsl") or Path(what).is_file():
        _explain_spec(Path(what), **options)
    else:
        _explain_id(what)


@cli.command(short_help="Find the value of an attribute that makes an op fastest.")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--balance", "wanted", required=True, metavar="NAME[=LOW..HIGH]", help="The int attribute to vary.")
@click.option("--target", default="gaudi2", show_default=True, help="Device: one of ours or of --machines.")
@_sizes_and_dtypes
@click.option("--machines", type=click.Path(path_type=Path), help=MACHINES_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def tune(spec: Path, wanted: str, as_json: bool, **options: Any) -> None:
    """Price SPEC at every value of an int attribute, as in --balance Hs, and say which is the fastest.

    The values are those that the op's contracts leave at the sizes of --bind, or of the first check block.
    """
    from tpcgen import compiler
    from tpcgen.report import balance as report

    name, limits = _range(wanted)
    progress = _Progress(as_json)
    try:
        found = compiler.balances(spec, _options(**options, prefix="tpcgen"), name, limits, progress)
    finally:
        progress.done()
    click.echo(report.to_json(found) if as_json else report.to_text(found), nl=False)


def _range(wanted: str) -> tuple[str, tuple[int, int] | None]:
    name, equals, text = (part.strip() for part in wanted.partition("="))
    if not equals:
        return name, None
    low, high = (_number(part.strip()) for part in (*text.split("..", 1), "")[:2])
    if not isinstance(low, int) or not isinstance(high, int) or low > high:
        raise _bad_input("E521", f"--balance: {text!r} is no range", "a range is LOW..HIGH, both ends tried: Hs=0..12")
    return name, (low, high)


def _explain_spec(
    spec: Path,
    trace: Path | None,
    html: Path | None,
    mask: bool,
    mask_svg: Path | None,
    cards: int | None,
    share: str,
    heads: str,
    sequence: str,
    **options: Any,
) -> None:
    from dataclasses import replace

    from tpcgen import session
    from tpcgen.machine import machines
    from tpcgen.partition.cards import Cards, Share
    from tpcgen.report import explain as report
    from tpcgen.syntax.source import read_source

    names = tuple(name.strip() for name in sequence.split(","))
    shared = Cards(cards, Share(share), heads, names) if cards is not None else None
    chosen = replace(_options(**options, prefix="tpcgen"), cards=shared)
    compiled = _compile(spec, chosen)
    machine = machines(chosen.machines)[chosen.target]
    found = session.explanations(compiled, chosen.target, machine, read_source(spec), shared)
    if trace is not None:
        from tpcgen.report.trace import to_json

        _write(trace, to_json(found))
    if html is not None:
        from tpcgen.report.html import to_html

        _write(html, to_html(found))
    if mask_svg is not None:
        from tpcgen.report.mask import to_svg

        _write(mask_svg, to_svg(found))
    if mask:
        from tpcgen.report.mask import to_text

        click.echo(to_text(found), nl=False)
        return
    click.echo(report.to_text(found), nl=False)


def _explain_id(id: str) -> None:
    from tpcgen.explain import explanation, ids

    text = explanation(id.upper())
    if text is None:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(id.upper(), ids(), 3))
        hint = f"did you mean {near}?" if near else "ids look like E104 or W101"
        raise _bad_input("E520", f"no diagnostic has the id {id}", hint)
    click.echo(text, nl=False)


@cli.command(short_help="Put specs into the one layout.")
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; status 1 when a file would change.")
def fmt(specs: tuple[Path, ...], only_check: bool) -> None:
    """Put SPECS into the one layout. A spec named - is read from standard input and written to standard output."""
    from tpcgen.syntax.format import format_text
    from tpcgen.syntax.source import decode, read_source

    changed: list[Path] = []
    for spec in specs:
        if str(spec) == "-":
            click.echo(format_text(decode(sys.stdin.buffer.read(), "<stdin>"), "<stdin>"), nl=False)
            continue
        before = read_source(spec)
        after = format_text(before, str(spec))
        if after == before:
            continue
        changed.append(spec)
        if not only_check:
            _write(spec, after)
    for spec in changed:
        click.echo(f"{'would change' if only_check else 'formatted'} {spec}", err=True)
    sys.exit(CHECK_FAILED if only_check and changed else 0)


@cli.command(short_help="The numbers of the cost model and their sources.")
@click.option("--machines", "file", type=click.Path(path_type=Path), help=MACHINES_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def devices(file: Path | None, as_json: bool) -> None:
    """List the devices with the numbers the cost model uses and where each comes from."""
    from tpcgen.machine import machines
    from tpcgen.report import devices as report

    known = machines(file)
    click.echo(report.to_json(known) if as_json else report.to_text(known), nl=False)


cli.add_command(run_command)
cli.add_command(conformance_command)


def _compile(spec: Path, options: Options) -> Compiled:
    """Compile the file and show its warnings."""
    from tpcgen import compiler

    compiled = compiler.compile_spec(spec, options)
    _show(compiled.warnings)
    return compiled


def _produce(compiled: Compiled, out: Path, *, build: bool, check: bool, quiet: bool) -> list[Produced]:
    from tpcgen import session

    progress = _Progress(quiet)
    try:
        return [
            session.produce(op, out, build=build, check=check, eager=_eager, progress=progress) for op in compiled.ops
        ]
    finally:
        progress.done()


def _eager() -> Eager | None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return None
    from tpcgen.torch.eager import evaluate

    return evaluate


class _Progress:
    """Says on standard error what is being done: one line that is replaced on a terminal, plain lines elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def __call__(self, message: str) -> None:
        if self._quiet or message == self._last:
            return
        self._last = message
        click.echo(f"\r\x1b[K{message}" if self._terminal else f"tpcgen: {message}", err=True, nl=not self._terminal)

    def done(self) -> None:
        """Clear the line."""
        if self._terminal and self._last:
            click.echo("\r\x1b[K", err=True, nl=False)


def _options(
    target: str,
    binds: Sequence[str],
    defines: Sequence[str],
    dtypes: Sequence[str],
    ops: Sequence[str],
    prefix: str,
    machines: Path | None = None,
) -> Options:
    from tpcgen.compiler import Options

    return Options(
        target=target,
        prefix=prefix,
        binds=tuple(_values("--bind", bind.split(",")) for bind in binds),
        defines=_values("-D", defines),
        dtypes=tuple(dtypes),
        ops=tuple(ops),
        machines=machines,
    )


def _values(option: str, items: Sequence[str]) -> Mapping[str, int | float]:
    values: dict[str, int | float] = {}
    for item in items:
        name, equals, text = (part.strip() for part in item.partition("="))
        number = _number(text)
        if not name or not equals or number is None:
            hint = f"{option} takes NAME=NUMBER" + (", several with commas between them" if option == "--bind" else "")
            raise _bad_input("E521", f"{option}: {item!r} binds nothing", hint)
        if name in values:
            raise _bad_input("E521", f"{option} binds {name} twice", "give each name once")
        values[name] = number
    return values


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _write(file: Path, text: str) -> None:
    """Write a user's file: the old one or the new one is there at any time, a new text under the old one's mode."""
    import tempfile

    real = file.resolve()
    if not real.parent.is_dir() or (file.exists() and not file.is_file()):
        file.write_text(text, encoding="utf-8")  # the error of a missing folder; a device
        return
    with tempfile.TemporaryDirectory(prefix=f".{real.name}.tpcgen-", dir=real.parent) as beside:
        new = Path(beside) / real.name
        new.write_text(text, encoding="utf-8")
        if real.exists():
            new.chmod(real.stat().st_mode)
        new.replace(real)


def _bad_input(id: str, message: str, hint: str = "") -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, NOWHERE, hint),))


def _show(diagnostics: Sequence[Diagnostic]) -> None:
    texts = read_sources(diagnostics)
    for diagnostic in diagnostics:
        click.echo(render(diagnostic, texts), err=True)


def main() -> None:
    """The entry point: whatever happens, an exit status and words, never a traceback."""
    out: Any = sys.stdout
    if out is not None:
        out.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        with cli.make_context("tpcgen", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(BAD_INPUT)
    except DiagnosticError as error:
        _show(error.diagnostics)
        sys.exit(TOOLCHAIN_FAILED if _of_toolchain(error) else BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _show([Diagnostic("E522", f"{where}{error.strerror or error}", NOWHERE)])
        sys.exit(BAD_INPUT)
    except MemoryError as error:
        hint = "check at smaller sizes, or compile with --no-check"
        _show([Diagnostic("E527", f"not enough memory: {error}", NOWHERE, hint)])
        sys.exit(BAD_INPUT)
    except Exception as bug:
        _report_bug(bug)
        sys.exit(INTERNAL_ERROR)


def _of_toolchain(error: DiagnosticError) -> bool:
    from tpcgen.toolchain.errors import ToolchainError

    return isinstance(error, ToolchainError)


def _report_bug(bug: Exception) -> None:
    import tempfile
    import traceback

    click.echo(f"tpcgen: this is a bug in tpcgen: {type(bug).__name__}: {bug}", err=True)
    where = "what was printed"
    with suppress(OSError), tempfile.NamedTemporaryFile("w", prefix="tpcgen-bug-", suffix=".txt", delete=False) as file:
        file.write(f"tpcgen {VERSION}, Python {sys.version}\n{sys.argv}\n\n")
        traceback.print_exception(bug, file=file)
        where = file.name
    click.echo(f"tpcgen: please report it with the spec, the command and {where}", err=True)


if __name__ == "__main__":
    main()
