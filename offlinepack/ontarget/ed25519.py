"""Verify Ed25519 signatures with the standard library only. Standard: RFC 8032."""

import hashlib
from typing import Any

_P, _L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
_D, _ROOT = -121665 * pow(121666, _P - 2, _P) % _P, pow(2, (_P - 1) // 4, _P)  # 5.1


def verify_signature(key, message, value):  # type: (bytes, bytes, bytes) -> bool
    """Check that the encoded [S]B - [k]A is R (RFC 8032, 5.1.7), without the cofactor, as OpenSSH does it."""
    a, s = _decode_point(key), int.from_bytes(value[32:], "little")
    if a is None or len(value) != 64 or s >= _L:
        return False
    multiple = a
    for _ in range(3):
        multiple = _add_points(multiple, multiple)
    if multiple[0] == 0:  # a key of small order: anybody could sign
        return False
    k = int.from_bytes(hashlib.sha512(value[:32] + key + message).digest(), "little") % _L
    b, minus = _decode_point(b"\x58" + b"\x66" * 31), (_P - a[0], a[1], a[2], _P - a[3])
    total, point = _add_points(b, minus), (0, 1, 1, 0)
    for bit in range(252, -1, -1):
        point = _add_points(point, point)
        chosen = {(1, 0): b, (0, 1): minus, (1, 1): total}.get((s >> bit & 1, k >> bit & 1))
        point = _add_points(point, chosen) if chosen else point
    x, y = (coordinate * pow(point[2], _P - 2, _P) % _P for coordinate in point[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little") == value[:32]


def _decode_point(data):  # type: (bytes) -> Any
    """Decode a point to extended coordinates (5.1.3), or return None if it is not one."""
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    x = x if (x * x - square) % _P == 0 else x * _ROOT % _P
    if len(data) != 32 or y >= _P or (x * x - square) % _P or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else _P - x
    return x, y, 1, x * y % _P


def _add_points(first, other):  # type: (Any, Any) -> Any
    """Add two points in extended coordinates (5.1.4)."""
    a, b = (first[1] - first[0]) * (other[1] - other[0]) % _P, (first[1] + first[0]) * (other[1] + other[0]) % _P
    c, d = 2 * first[3] * other[3] * _D % _P, 2 * first[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P
