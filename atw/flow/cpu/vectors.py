"""Vector code for numba kernels: loops over 16 float32 lanes, written as formulas and emitted as LLVM instructions.

numba seldom turns plain loops into vector code, and never into the approximate square roots that suffice for TV-L1. A
function under `emitted` receives an `Emitter` and runs once, when numba compiles the kernel that calls it; its
arithmetic on `Vector` becomes the code of the kernel. The instructions belong to no particular machine: LLVM splits the
vectors on machines with shorter registers, such as AVX2 and Arm.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FAST = ["fast"]


class Vector:
    """float32 lanes in the emitted code; operators act lane by lane, also with numbers."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._builder = builder
        self.value = value

    @property
    def lanes(self) -> int:
        """The number of lanes."""
        count: int = self.value.type.count
        return count

    def _other(self, other: "Vector | float") -> Any:
        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.value.type, [float(other)] * self.lanes)

    def _make(self, instruction: Callable[..., Any], *values: Any) -> "Vector":
        return Vector(self._builder, instruction(*values, flags=_FAST))

    def __add__(self, other: "Vector | float") -> "Vector":
        return self._make(self._builder.fadd, self.value, self._other(other))

    def __sub__(self, other: "Vector | float") -> "Vector":
        return self._make(self._builder.fsub, self.value, self._other(other))

    def __rsub__(self, other: "Vector | float") -> "Vector":
        return self._make(self._builder.fsub, self._other(other), self.value)

    def __mul__(self, other: "Vector | float") -> "Vector":
        return self._make(self._builder.fmul, self.value, self._other(other))

    def __rtruediv__(self, other: "Vector | float") -> "Vector":
        return self._make(self._builder.fdiv, self._other(other), self.value)

    def __neg__(self) -> "Vector":
        return self._make(self._builder.fneg, self.value)

    __radd__ = __add__
    __rmul__ = __mul__

    def _call(self, function: str, *others: "Vector | float", flags: Sequence[str] = ()) -> "Vector":
        kind = self.value.type
        called = self._declare(function, ir.FunctionType(kind, [kind] * (1 + len(others))))
        values = [self.value, *(self._other(other) for other in others)]
        return Vector(self._builder, self._builder.call(called, values, fastmath=flags))

    def _declare(self, function: str, kind: Any) -> Any:
        name = f"llvm.{function}.v{self.lanes}f32"
        return cgutils.get_or_insert_function(self._builder.module, kind, name)

    def sqrt(self) -> "Vector":
        """Square root; `1 / x.sqrt()` becomes an estimate, see `Emitter.estimate`."""
        return self._call("sqrt", flags=_FAST)

    def floor(self) -> "Vector":
        """Round down."""
        return self._call("floor")

    def clip(self, low: "Vector | float", high: "Vector | float") -> "Vector":
        """Limit to low..high; NaN becomes `low`, so that an index made from the result is valid."""
        return self._call("maxnum", low)._call("minnum", high)

    def shuffle(self, other: "Vector", order: Sequence[int]) -> "Vector":
        """Pick lanes from this vector (0, 1, ..) and the other one (`lanes`, ..)."""
        picked = ir.Constant(ir.VectorType(_INT32, len(order)), list(order))
        return Vector(self._builder, self._builder.shuffle_vector(self.value, other.value, picked))

    def pick(self, order: Sequence[int]) -> "Vector":
        """Put the lanes of this vector into another order."""
        return self.shuffle(self, order)

    def where(self, condition: Any, other: "Vector | float") -> "Vector":
        """Take this vector where the condition holds, else the other."""
        return Vector(self._builder, self._builder.select(condition, self.value, self._other(other)))

    def above(self, limit: "Vector | float") -> Any:
        """Condition, lane by lane, that the value is above `limit`."""
        return self._builder.fcmp_ordered(">", self.value, self._other(limit))

    def between(self, low: "Vector | float", high: "Vector | float") -> Any:
        """Condition, lane by lane, that the value is from `low` to `high`."""
        return self._builder.and_(
            self._builder.fcmp_ordered(">=", self.value, self._other(low)),
            self._builder.fcmp_ordered("<=", self.value, self._other(high)),
        )

    def sum(self) -> Any:
        """Sum the lanes to a float32."""
        called = self._declare("vector.reduce.fadd", ir.FunctionType(_FLOAT, [_FLOAT, self.value.type]))
        return self._builder.call(called, [ir.Constant(_FLOAT, 0.0), self.value], fastmath=_FAST)

    def to_int32(self) -> Any:
        """Convert whole numbers to an int32 vector, for `Emitter.spill`."""
        return self._builder.fptosi(self.value, ir.VectorType(_INT32, self.lanes))


class Emitter:
    """Emits the instructions of one kernel: `builder` is llvmlite's, for what is not here."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.builder = builder
        self._triple, _, self._features = context.codegen().magic_tuple()

    def estimate(self, *, root_bits: int, quotient_bits: int) -> None:
        """Compute 1 / sqrt(x) and 1 / x in this kernel by the processor's estimate, to at least so many bits.

        Each Newton step doubles the bits; there are as many steps as it takes.
        """
        given = self._estimated_bits()
        roots, quotients = (math.ceil(math.log2(max(bits / given, 1))) for bits in (root_bits, quotient_bits))
        # LLVM loses these attributes when it inlines the function into one that lacks them. Some AVX-512 machines
        # prefer half vectors, whose estimate has fewer bits.
        for attribute in (
            f'"reciprocal-estimates"="vec-sqrtf:{roots},vec-divf:{quotients}"',
            '"prefer-vector-width"="512"',
            '"min-legal-vector-width"="512"',
            "noinline",
        ):
            set.add(self.builder.function.attributes, attribute)  # llvmlite refuses attributes with values

    def _estimated_bits(self) -> int:
        if "+avx512f" in self._features.split(","):
            return 14
        return 12 if self._triple.startswith(("x86_64", "i686")) else 8

    @contextmanager
    def loop(self, count: Any) -> Iterator[Any]:
        """Emit the block once per 0, LANES, 2 LANES, .. below `count` (int64), and yield that number."""
        rounds = self.builder.sdiv(self.builder.add(count, _INT64(LANES - 1)), _INT64(LANES))
        with cgutils.for_range(self.builder, rounds) as loop:
            yield self.builder.mul(loop.index, _INT64(LANES))

    def address(self, array: Any, index: Any) -> Any:
        """Pointer to an element of an array."""
        return self.builder.gep(array, [index])

    def load(self, pointer: Any, offset: int = 0, lanes: int = LANES) -> Vector:
        """Load float32 values from `offset` elements after a pointer on."""
        return Vector(self.builder, self.builder.load(self._at(pointer, offset, _FLOAT, lanes), align=4))

    def load_int16(self, pointer: Any) -> Vector:
        """Load int16 values at a pointer as float32."""
        loaded = self.builder.load(self._at(pointer, 0, ir.IntType(16), LANES), align=2)
        return Vector(self.builder, self.builder.sitofp(loaded, ir.VectorType(_FLOAT, LANES)))

    def store(self, vector: Vector, pointer: Any) -> None:
        """Write the lanes from a pointer on."""
        self.builder.store(vector.value, self._at(pointer, 0, _FLOAT, vector.lanes), align=4)

    def store_int16(self, vector: Vector, pointer: Any) -> None:
        """Write the lanes, rounded to the nearest whole number, as int16."""
        kind = ir.VectorType(ir.IntType(16), vector.lanes)
        rounded = self.builder.fptosi(vector._call("rint").value, kind)
        self.builder.store(rounded, self._at(pointer, 0, ir.IntType(16), vector.lanes), align=2)

    def _at(self, pointer: Any, offset: int, kind: Any, lanes: int) -> Any:
        if offset:
            pointer = self.builder.gep(pointer, [_INT64(offset)])
        return self.builder.bitcast(pointer, ir.VectorType(kind, lanes).as_pointer())

    def broadcast(self, scalar: Any) -> Vector:
        """Put a float32, or a constant number, into every lane."""
        kind = ir.VectorType(_FLOAT, LANES)
        if isinstance(scalar, int | float):
            return Vector(self.builder, ir.Constant(kind, [float(scalar)] * LANES))
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _INT32(0))
        return Vector(self.builder, first).pick([0] * LANES)

    def count_up(self, start: Any) -> Vector:
        """Return start, start + 1, .. for an int64."""
        lanes = Vector(self.builder, ir.Constant(ir.VectorType(_FLOAT, LANES), [float(lane) for lane in range(LANES)]))
        return self.broadcast(self.to_float(start)) + lanes

    def below(self, count: Any) -> Any:
        """Condition that the lane number is below `count`, an int64."""
        kind = ir.VectorType(_INT64, LANES)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), count, _INT32(0))
        order = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
        limit = self.builder.shuffle_vector(first, first, order)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(LANES))), limit)

    def all(self, *conditions: Any) -> Any:
        """Condition that all of them hold."""
        return functools.reduce(self.builder.and_, conditions)

    def to_float(self, whole: Any) -> Any:
        """Convert an int64 to float32."""
        return self.builder.sitofp(whole, _FLOAT)

    def variable(self, vector: Vector) -> Any:
        """Return the address of a vector that changes from round to round of a loop, for `load` and `store`."""
        room = cgutils.alloca_once(self.builder, vector.value.type)
        self.builder.store(vector.value, room)
        return self.builder.bitcast(room, _FLOAT.as_pointer())

    def spill(self, values: Any) -> Any:
        """Return a pointer to a copy of a vector of any type in memory, to read its elements one by one.

        A broadcast read costs nothing; taking an element out of a register costs two shuffles. The empty assembly
        statement keeps LLVM from optimising the copy away.
        """
        room = cgutils.alloca_once(self.builder, values.type)
        self.builder.store(values, room)
        pointer = self.builder.bitcast(room, values.type.element.as_pointer())
        opaque = ir.FunctionType(ir.VoidType(), [pointer.type])
        self.builder.asm(opaque, "", "r,~{memory}", [pointer], side_effect=True)
        return pointer


def emitted(emit: Callable[..., Any]) -> Any:
    """Turn a function that emits code into one that numba kernels can call.

    `emit` receives an Emitter, then each argument: the pointer to an array's first element, an int64 for an integer, a
    float32 for another number. It returns the call's result, a float32 or nothing.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = [
            _argument(context, builder, kind, value) for kind, value in zip(signature.args, arguments, strict=True)
        ]
        result = emit(Emitter(context, builder), *given)
        return context.get_dummy_value() if result is None else result

    returns = emit.__annotations__["return"]
    result = numba.types.void if returns is None else numba.types.float32

    def typing(context: Any, *kinds: Any) -> tuple[Any, Any]:
        del context
        return result(*kinds), generate

    functools.update_wrapper(typing, emit)  # numba asks for the names of the arguments
    return intrinsic(typing)


def _argument(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, numba.types.Array):
        return context.make_array(kind)(context, builder, value).data
    target = numba.types.int64 if isinstance(kind, numba.types.Integer) else numba.types.float32
    return context.cast(builder, value, kind, target)


def interleave(vectors: Sequence[Vector]) -> Vector:
    """Interleave four vectors into one of four times the lanes: a0 b0 c0 d0 a1 b1 .."""
    lanes = vectors[0].lanes
    pairs = [vectors[0].shuffle(vectors[1], range(2 * lanes)), vectors[2].shuffle(vectors[3], range(2 * lanes))]
    return pairs[0].shuffle(pairs[1], [k * lanes + lane for lane in range(lanes) for k in range(4)])


def total(terms: Sequence[Vector]) -> Vector:
    """Sum vectors."""
    return functools.reduce(operator.add, terms)
