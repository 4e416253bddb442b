"""The host device: what check, torch and the command line use of it."""

from __future__ import annotations

from tpcgen.host.fast import FastKernel, fast_kernel, run_fast
from tpcgen.host.glue import GlueError, Instantiation, TensorSpec, guids, instantiate
from tpcgen.host.launch import Launch, spec_of
from tpcgen.host.strict import Access, Bare, Finding, RunReport, Session, TensorUse, run_strict
from tpcgen.toolchain.host import HostLibrary, build

__all__ = [
    "Access",
    "Bare",
    "FastKernel",
    "Finding",
    "GlueError",
    "HostLibrary",
    "Instantiation",
    "Launch",
    "RunReport",
    "Session",
    "TensorSpec",
    "TensorUse",
    "build",
    "fast_kernel",
    "guids",
    "instantiate",
    "run_fast",
    "run_strict",
    "spec_of",
]
