"""Plane rotations that zero an entry, by formulas that differ in rounding only."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Inexact

from attractor.linalg.matrices import require_finite
from attractor.registry import part

Formula = Literal["short", "divide", "reciprocal"]


class Rotation(NamedTuple):
    r"""$\begin{pmatrix} c & s \\ -\bar s & c \end{pmatrix} \begin{pmatrix} f \\ g \end{pmatrix} =
    \begin{pmatrix} r \\ 0 \end{pmatrix}$, with real $c \ge 0$."""

    c: Inexact[np.ndarray, "*shape"]
    s: Inexact[np.ndarray, "*shape"]
    r: Inexact[np.ndarray, "*shape"]


def givens(f: ArrayLike, g: ArrayLike, formula: Formula = "short") -> Rotation:
    r"""The rotation that turns (f, g) into (r, 0), entry by entry, in the precision of the inputs.

    With $f_2 = |f|^2$ and $h_2 = |f|^2 + |g|^2$, for complex numbers

    | | c | r | s |
    |---|---|---|---|
    | ``"short"`` | $\sqrt{f_2 / h_2}$ | $f / c$ | $\bar g (f / \sqrt{f_2 h_2})$ |
    | ``"divide"``, $d = \sqrt{f_2 h_2}$ | $f_2 / d$ | $f (h_2 / d)$ | $\bar g (f / d)$ |
    | ``"reciprocal"``, $p = 1 / \sqrt{f_2 h_2}$ | $f_2 p$ | $f (h_2 p)$ | $\bar g (f p)$ |

    and for real ones, with $d = \sqrt{h_2}$, $c = |f| / d$, $r = \mathrm{sign}(f)\, d$ and $s = g / r$; where the
    reciprocal $p = 1 / d$ is formed, $c = |f| p$ and $s = \mathrm{sign}(f)\, g p$. The short formulas have fewer
    operations on the way to each entry, and more in total. Inputs are scaled by powers of two, which round nothing, so
    that squares neither overflow nor vanish. g = 0 gives the identity, f = 0 gives c = 0 and r = |g|.

    Arguments:
        f: Numbers of single or double precision, real or complex.
        g: The same, of a shape that fits f's.
        formula: Which formulas; ``"divide"`` is ``"short"`` for real numbers.

    Raises:
        ValueError: for numbers that are not finite or not of a floating-point type, or an unknown formula.

    Paper: Numerical analysis of Givens rotation (da Silva Pereira, Lotfi, Langou, 2022).
    """
    if formula not in ("short", "divide", "reciprocal"):
        raise ValueError(f"formula: expected 'short', 'divide' or 'reciprocal', got {formula!r}")
    require_finite("f", f)
    require_finite("g", g)
    f, g = np.broadcast_arrays(np.asarray(f), np.asarray(g))
    dtype = np.result_type(f, g)
    if not np.issubdtype(dtype, np.inexact):
        raise ValueError(f"f, g: expected floating-point numbers, got {dtype}; give them as floats")
    f, g = f.astype(dtype), g.astype(dtype)
    (fs, low), (gs, high) = _scaled(f), _scaled(g)
    largest = np.maximum(np.where(f == 0, high, low), np.where(g == 0, low, high))
    real = np.abs(f).dtype.type
    small, other = (np.ldexp(real(1), e - largest) for e in (low, high))  # 1 for the larger of f and g
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        f2, gs = _square(fs), gs * other
        h2 = f2 * small**2 + _square(gs)
        c, s, r = (_complex if np.iscomplexobj(f) else _real)(fs, gs, f2, h2, small, formula)
        r = r * np.ldexp(real(1), largest - largest // 2) * np.ldexp(real(1), largest // 2)  # 2^e alone may overflow
        length = np.abs(np.where(f == 0, g, 1))
        turned = np.conj(np.where(g == 0, 1, g)) / length
    c = np.where(g == 0, real(1), np.where(f == 0, real(0), c))
    s = np.where(g == 0, dtype.type(0), np.where(f == 0, turned, s))
    return Rotation(c.astype(real), s.astype(dtype), np.where(g == 0, f, np.where(f == 0, length, r)).astype(dtype))


def _complex(f, g, f2, h2, small, formula):
    if formula == "short":
        c = np.sqrt(f2 / h2)
        return c * small, np.conj(g) * (f / np.sqrt(f2 * h2)), f / c
    if formula == "divide":
        d = np.sqrt(f2 * h2)
        return f2 / d * small, np.conj(g) * (f / d), f * (h2 / d)
    p = 1 / np.sqrt(f2 * h2)
    return f2 * p * small, np.conj(g) * (f * p), f * (h2 * p)


def _real(f, g, f2, h2, small, formula):
    d = np.sqrt(h2)
    r = np.copysign(d, f)
    if formula == "reciprocal":
        p = 1 / d
        return np.abs(f) * p * small, np.copysign(p, f) * g, r
    return np.abs(f) / d * small, g / r, r


def _square(z):
    return z.real * z.real + z.imag * z.imag if np.iscomplexobj(z) else z * z


def _scaled(z):
    """z = y 2^e with the larger part of y in [1/2, 1); y and e."""
    size = np.maximum(np.abs(z.real), np.abs(z.imag)) if np.iscomplexobj(z) else np.abs(z)
    exponent = np.frexp(size)[1]
    half = exponent // 2  # in two steps, as 2^-e alone may overflow
    parts = [np.ldexp(np.ldexp(x, -half), half - exponent) for x in ((z.real, z.imag) if np.iscomplexobj(z) else (z,))]
    return (parts[0] + z.dtype.type(1j) * parts[1] if len(parts) == 2 else parts[0]), exponent


def _example() -> tuple[float, float]:
    c, s, r = givens(np.float64(3.0), np.float64(-4.0))
    return float(abs(c * 3 - s * 4 - r) + abs(s * 3 + c * 4)), 1e-14


part("solver", "givens", example=lambda: _example)(givens)
