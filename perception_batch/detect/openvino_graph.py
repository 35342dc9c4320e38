"""Rewrites of a model's graph that compute the same with less work on a CPU; made when it is loaded.

OpenVINO computes a SiLU (its Swish) inside the convolution before it, one vector after another with an exponential
and a division each: of YOLO11n at 384x640 (core-ms an image on a Xeon with AMX) 7 of 17 in bfloat16, 10 of 22 in INT8, 5 of
36 in float. Plain sums and products it fuses into loops of their own that hardly wait, so that the same function
written with them costs 2 to 3; there each operation counts, and INT8 needs fewer than bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Arithmetic = Literal["float", "bfloat16", "int8"]
"""What a network computes in."""

# Fitted for the least largest error, as the sources below say; highest power first.
# tanh(h) = h * P(h^2) / Q(h^2) where |h| <= 8, beyond which it is 1 in float.
_TANH_MOST = 8.0
_TANH_OVER = (
    -6.0199897671061335e-09,
    7.083448294994117e-06,
    0.0026844951210267653,
    0.12699781683512773,
    0.999999064995772,
)
_TANH_UNDER = (0.00019529905856150454, 0.022797390117072727, 0.46032774408372684, 1.0)
# sigmoid(-t) = R(t)^8 where 0 <= t <= 10, beyond which t * sigmoid(-t) is below 5e-4.
_TAIL_MOST = 10.0
_TAIL = (
    -0.00013649573560180317,
    0.002520920950295853,
    -0.01265092276111021,
    -0.05934632754522587,
    0.9180241548647514,
)
_TAIL_SQUARES = 3
# -sigmoid(-t) = S(t)^3 where 0 <= t <= 8.5, beyond which t * sigmoid(-t) is below 2e-3.
_CUBE_MOST = 8.5
_CUBE = (-0.011411181458409558, 0.18403620623458222, -0.8150351016312902)


def silu_exact(x: Any, ops: Any) -> Any:
    """``x * sigmoid(x)`` within 3e-7 of the larger of 1 and abs(x): float's own rounding.

    By ``x/2 + x/2 * tanh(x/2)``, and tanh as a quotient of polynomials.
    """
    half = ops.multiply(x, _number(0.5, ops))
    bounded = ops.clamp(half, -_TANH_MOST, _TANH_MOST)
    square = ops.multiply(bounded, bounded)
    over = ops.multiply(bounded, _polynomial(square, _TANH_OVER, ops))
    tanh = ops.divide(over, _polynomial(square, _TANH_UNDER, ops))
    return ops.add(half, ops.multiply(half, tanh))


def silu_short(x: Any, ops: Any) -> Any:
    """``x * sigmoid(x)`` within 5.2e-4: less than bfloat16 rounds off from 0.13 on.

    By ``max(x, 0) - t * sigmoid(-t)`` with t = abs(x), and the sigmoid as the power of a polynomial.
    """
    t = ops.minimum(ops.abs(x), _number(_TAIL_MOST, ops))
    power = _polynomial(t, _TAIL, ops)
    for _ in range(_TAIL_SQUARES):
        power = ops.multiply(power, power)
    return ops.subtract(ops.relu(x), ops.multiply(t, power))


def silu_coarse(x: Any, ops: Any) -> Any:
    """``x * sigmoid(x)`` within 4.6e-3: a twelfth of a layer's step in INT8 (median of YOLO11n), a third of the least.

    By ``max(x, 0) - t * sigmoid(-t)`` with t = abs(x), the sigmoid as a cube, and the sign in it, so that the last
    product and sum are one instruction.
    """
    t = ops.minimum(ops.abs(x), _number(_CUBE_MOST, ops))
    root = _polynomial(t, _CUBE, ops)
    cube = ops.multiply(ops.multiply(root, root), root)
    return ops.add(ops.multiply(cube, t), ops.relu(x))


_SILU = {"float": silu_exact, "bfloat16": silu_short, "int8": silu_coarse}


def rewrite(model: Any, ops: Any, arithmetic: Arithmetic) -> int:
    """Rewrite a model in place.

    Args:
        model: an `openvino.Model`.
        ops: the module ``openvino.opset13``.
        arithmetic: what it computes in; a shorter form will do where that is coarser.

    Returns:
        How many operations were replaced.
    """
    silu = _SILU[arithmetic]
    replaced = 0
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Swish" and _is_silu(node):
            _replace(node, silu(node.input_value(0), ops))
        elif kind == "Transpose" and (scaled := _only_scaled_after(node)) is not None:
            # Scaled before it is turned: then the turn is only another way to read the same bytes, for a convolution
            # that wants the channels last anyway.
            divided = ops.divide(node.input_value(0), scaled.input_value(1))
            _replace(scaled, ops.transpose(divided, node.input_value(1)))
        else:
            continue
        replaced += 1
    if replaced:
        model.validate_nodes_and_infer_types()
    return replaced


def _is_silu(swish: Any) -> bool:
    """Whether its factor before the sigmoid is 1."""
    if swish.get_input_size() == 1:
        return True
    factor = swish.input_value(1).get_node()
    return factor.get_type_name() == "Constant" and bool(np.all(factor.get_data() == 1))


def _only_scaled_after(turn: Any) -> Any:
    """The division by one number that is all that uses a transposed input; None where there is no such."""
    source = turn.input_value(0).get_node()
    if source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    users = list(turn.output(0).get_target_inputs())
    if source.get_type_name() != "Parameter" or len(users) != 1 or users[0].get_index() != 0:
        return None
    user = users[0].get_node()
    if user.get_type_name() != "Divide":
        return None
    by = user.input_value(1)
    shape = by.get_partial_shape()
    scalar = shape.is_static and int(np.prod(list(shape.to_shape()), dtype=np.int64)) == 1
    same_rank = len(shape) <= len(turn.output(0).get_partial_shape())
    return user if scalar and same_rank and by.get_node().get_type_name() == "Constant" else None


def _replace(node: Any, by: Any) -> None:
    for user in list(node.output(0).get_target_inputs()):
        user.replace_source_output(by.output(0))


def _polynomial(x: Any, coefficients: Sequence[float], ops: Any) -> Any:
    """By Horner's rule."""
    value = _number(coefficients[0], ops)
    for number in coefficients[1:]:
        value = ops.add(ops.multiply(value, x), _number(number, ops))
    return value


def _number(value: float, ops: Any) -> Any:
    scalar: npt.NDArray[np.float32] = np.array(value, np.float32)
    return ops.constant(scalar)
