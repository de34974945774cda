"""exp and ln of float32 that LLVM turns into vector instructions, inside the loops that call them.

Both are branch-free. They may not be reassociated, or their exact steps would be folded away: only contraction into
fused multiply-adds is allowed here, whatever the calling loop allows. A change here does not reach kernels that numba
has cached: delete their ``__pycache__`` files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer, kept in the low bits
_LOG2_E = np.float32(1.442695)
_LN2_HIGH = np.float32(6.93145752e-1)
_LN2_LOW = np.float32(1.42860677e-6)
_LOWEST = np.float32(-87.0)  # e^-87 = 1.6e-38, still a normal number
_LN2 = np.float32(0.693147182)
_SMALLEST = np.float32(1.17549435e-38)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
# Minimax polynomials, within 1 unit in the last place on their intervals.
_E2, _E3, _E4 = np.float32(4.99999851e-1), np.float32(1.66664720e-1), np.float32(4.16695364e-2)
_E5, _E6 = np.float32(8.37312452e-3), np.float32(1.37805939e-3)
_L3, _L4, _L5 = np.float32(0.333331972), np.float32(0.249996200), np.float32(0.200120345)
_L6, _L7, _L8 = np.float32(0.166846126), np.float32(0.139814854), np.float32(0.121483512)
_L9, _L10 = np.float32(0.140869141), np.float32(0.130310059)


@intrinsic
def _power_of_two(typingctx: Any, rounded: Any) -> Any:
    """2^n of the integer n that adding _MAGIC left in the low bits of a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        shifted = builder.shl(builder.add(bits, ir.Constant(i32, 127)), ir.Constant(i32, 23))
        return builder.bitcast(shifted, ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def bits_of(typingctx: Any, value: Any) -> Any:
    """The bits of a float32 as an int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def _exponent(typingctx: Any, value: Any) -> Any:
    """E of value = 2^e * m with m in [2/3, 4/3), as a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        bits = builder.sub(builder.bitcast(args[0], i32), ir.Constant(i32, 0x3F2AAAAB))
        return builder.sitofp(builder.ashr(bits, ir.Constant(i32, 23)), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def _mantissa(typingctx: Any, value: Any) -> Any:
    """M of value = 2^e * m with m in [2/3, 4/3)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        exponent = builder.and_(builder.sub(bits, ir.Constant(i32, 0x3F2AAAAB)), ir.Constant(i32, -0x800000))
        return builder.bitcast(builder.sub(bits, exponent), ir.FloatType())

    return types.float32(types.float32), codegen


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
def exp32(x: Any) -> Any:
    """e^x of a float32 x <= 0, within 2e-7 relative; e^-87 for everything below -87."""
    x = x if x > _LOWEST else _LOWEST
    rounded = x * _LOG2_E + _MAGIC
    n = rounded - _MAGIC
    f = x - n * _LN2_HIGH
    f = f - n * _LN2_LOW
    r = _E6 * f + _E5
    r = r * f + _E4
    r = r * f + _E3
    r = r * f + _E2
    r = r * f + _ONE
    r = r * f + _ONE
    return r * _power_of_two(rounded)


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
def log32(x: Any) -> Any:
    """Natural logarithm of a float32 x >= 0, within 2e-7 relative; that of the smallest normal number below it."""
    x = x if x > _SMALLEST else _SMALLEST
    e = _exponent(x)
    m = _mantissa(x) - _ONE
    s = m * m
    r = -_L10 * s - _L8
    t = _L9 * s + _L7
    r = r * s - _L6
    t = t * s + _L5
    r = r * s - _L4
    r = t * m + r
    r = r * m + _L3
    r = r * m - _HALF
    r = r * s + m
    return e * _LN2 + r
