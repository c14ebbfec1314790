"""What tests of 8-bit models may expect of the processor that they run on."""

from refsynth.core.machine import instructions

EXACT_SUMS = bool({"avx512_vnni", "avx_vnni", "amx_int8"} & {*instructions()})
"""Whether sums of 8-bit products are exact: without such instructions they saturate at 16 bits."""
