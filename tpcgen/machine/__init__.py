"""Gaudi 1, 2 and 3 as data, and how long their engines take."""

from __future__ import annotations

from tpcgen.machine.gaudi import GAUDI
from tpcgen.machine.gaudi2 import GAUDI2
from tpcgen.machine.gaudi3 import GAUDI3
from tpcgen.machine.model import Machine
from tpcgen.machine.override import MACHINES, machines

__all__ = ["GAUDI", "GAUDI2", "GAUDI3", "MACHINES", "Machine", "machines"]
