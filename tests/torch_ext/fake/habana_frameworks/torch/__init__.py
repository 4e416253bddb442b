"""Plays habana_frameworks.torch: loads the plugin for all to see and makes `torch.hpu`, as Habana's package does."""

from __future__ import annotations

import ctypes
from pathlib import Path

from habana_frameworks.torch import hpu

import torch

plugin = ctypes.CDLL(str(Path(__file__).parent / "lib" / "libhabana_pytorch2_plugin.upstream.so"), ctypes.RTLD_GLOBAL)
torch._register_device_module("hpu", hpu)
