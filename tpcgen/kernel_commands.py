"""Commands for kernels rather than specs: run one TPC-C file on the host; the kit that judges the host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpcgen.host.run import KernelRun
    from tpcgen.host.strict import RunReport

FINDINGS = 1
TARGETS = ("gaudi", "gaudi2", "gaudi3")
# What the host compiler says of the user's own files, as against a compiler that is absent or broken.
_OF_THE_KERNEL = frozenset({"E601", "E602", "E604", "E605"})


@click.command("run", short_help="Run a TPC-C file on the strict host device.")
@click.argument("kernel", type=click.Path(path_type=Path))
@click.option("--in", "inputs", multiple=True, metavar="FILE.npy[:DTYPE]", help="An input tensor; in order.")
@click.option("--out", "outputs", multiple=True, metavar="NAME[:DTYPE[SIZES]]", help="An output tensor; in order.")
@click.option("--param", "params", multiple=True, metavar="NAME[:TYPE]=VALUE", help="A 32-bit parameter; in order.")
@click.option("--glue", multiple=True, type=click.Path(path_type=Path), help="Glue: C++ sources or a shared object.")
@click.option("--guid", default="", help="Which kernel of the glue.")
@click.option("--index-space", "index_space", default="", metavar="N,N,...", help="Members, without glue; dim 0 first.")
@click.option("--target", type=click.Choice(TARGETS), default="gaudi2", show_default=True, help="Device.")
@click.option("-I", "include", multiple=True, type=click.Path(path_type=Path), help="Folder of included files.")
@click.option("--sanitize", is_flag=True, help="Build kernel and glue with ASan and UBSan.")
@click.option("--trace", default="", metavar="member=N,N,...", help="List the accesses of this member.")
@click.option("--seed", default=0, show_default=True, help="Of the order the members run in.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds the kernel may take.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def run_command(
    kernel: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    params: Sequence[str],
    glue: Sequence[Path],
    guid: str,
    index_space: str,
    target: str,
    include: Sequence[Path],
    sanitize: bool,
    trace: str,
    seed: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Run KERNEL, one TPC-C file, member by member on the strict host device, and write its outputs.

    Shapes are in torch order. Status 0: no finding; 1: findings; 2: the kernel or an argument is wrong.
    """
    from tpcgen.host import run as host

    arrays = tuple(map(host.load_input, inputs))
    results = [host.parse_output(text, arrays) for text in outputs]
    run = host.KernelRun(
        kernel=kernel,
        target=target,
        inputs=arrays,
        outputs=tuple((shape, dtype) for _, shape, dtype in results),
        glue=tuple(glue),
        guid=guid,
        index_space=host.parse_index_space(index_space) if index_space else (),
        params=host.pack_params(params),
        include=tuple(include),
        sanitize=sanitize,
        trace=host.parse_member(trace) if trace else None,
        seed=seed,
        timeout_s=timeout,
    )
    report = _run(run)
    files = host.write_outputs(report, [name for name, _, _ in results])
    click.echo(host.to_json(report, files) if as_json else host.describe(report, files))
    sys.exit(0 if report.ok else FINDINGS)


def _run(run: KernelRun) -> RunReport:
    from tpcgen.host.run import run_kernel_file
    from tpcgen.toolchain.errors import ToolchainError

    try:
        return run_kernel_file(run)
    except ToolchainError as error:
        if all(d.id in _OF_THE_KERNEL for d in error.diagnostics):
            raise DiagnosticError(error.diagnostics) from None
        raise
    except ValueError as error:
        raise DiagnosticError((Diagnostic("E530", str(error), NOWHERE),)) from None


@click.command("conformance", short_help="Write the kit that confirms the host device on a Gaudi.")
@click.option("-o", "out", type=click.Path(path_type=Path), required=True, help="Folder of the kit.")
@click.option("--target", type=click.Choice(TARGETS[:2]), default="gaudi2", show_default=True, help="Device.")
def conformance_command(out: Path, target: str) -> None:
    """Write a kit that a user with a Gaudi runs once: it confirms or refutes what tpcgen assumes of the silicon, and
    measures the rates of the cost model for --machines."""
    from tpcgen.emit import conformance

    probes = conformance.write(out, target)
    click.echo(f"wrote {probes} probes for {target} to {out}; see {out / 'README.md'}")
