"""Weights, inputs and sign vectors by formula, so that no golden file stores any: the twin of ../support/formula.h.

Everything here is integer arithmetic modulo 2^32 or one IEEE double operation at a time, hence the same bits in both.
"""

import math

import numpy as np

PROJECTIONS = 8  # sign vectors per tensor, one per low bit of the hash
CHUNK = 1 << 22


def name_hash(name):
    """FNV-1a, 32 bits."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def hashes(name, start, stop):
    """32 well-mixed bits for each index in [start, stop) (the "lowbias32" finaliser by C. Wellons)."""
    with np.errstate(over="ignore"):
        h = np.arange(start, stop, dtype=np.uint64).astype(np.uint32)
        h *= np.uint32(0x9E3779B9)
        h += np.uint32(name_hash(name))
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x7FEB352D)
        h ^= h >> np.uint32(15)
        h *= np.uint32(0x846CA68B)
        h ^= h >> np.uint32(16)
    return h


def reals(name, shape, scale=1.0, shift=0.0):
    """float32 values spread evenly over [shift - scale, shift + scale); 24 random bits each.

    scale and shift are rounded to float32 first: the product then is exact in double, fused with the sum or not.
    """
    scale, shift = float(np.float32(scale)), float(np.float32(shift))
    count = math.prod(shape)
    values = np.empty(count, dtype=np.float32)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        unit = ((hashes(name, start, stop) >> np.uint32(8)).astype(np.float64) - 2.0**23) * 2.0**-23
        values[start:stop] = unit * scale + shift
    return values.reshape(shape)


def integers(name, shape, limit):
    """int64 values in [0, limit)."""
    return (hashes(name, 0, math.prod(shape)) % np.uint32(limit)).astype(np.int64).reshape(shape)


def network_tensor(name, shape):
    """The value of a parameter or buffer of a network, chosen by name and rank so that activations stay near 1.

    Convolution and linear weights are He-scaled. The last batch norm of a residual block quarters its branch, or the
    activations would grow with depth.
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return 100 + integers(name, shape, 100)
    if leaf == "running_mean":
        return reals(name, shape, 0.2)
    if leaf == "running_var":
        return reals(name, shape, 0.5, 1.0)
    if leaf == "bias":
        return reals(name, shape, 0.1)
    if len(shape) == 1:
        strength = 0.25 if name.endswith("bn2.weight") else 1.0
        return reals(name, shape, 0.25 * strength, strength)
    return reals(name, shape, math.sqrt(6.0 / math.prod(shape[1:])))


def digest(array):
    """L2 norm and PROJECTIONS inner products with vectors of signs, over the elements in row-major order."""
    flat = np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
    projections = np.zeros(PROJECTIONS)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        bits = hashes("signs", start, start + part.size)
        total = part.sum()
        for k in range(PROJECTIONS):
            positive = (bits >> np.uint32(k) & np.uint32(1)).astype(bool)
            projections[k] += 2.0 * part[positive].sum() - total
    return np.linalg.norm(flat), projections
