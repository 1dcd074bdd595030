"""Softmax attention, one function over several kernels: softmax(scale q k^T) v, per head, without dropout.

dot      explicit: the scores (H, Tq, Tk) are held in memory. Quickest on a CPU at small sizes.
chunked  exact, by blocks with a running softmax (Milakov and Gimelshein 2018; Dao et al., FlashAttention, 2022), in
         plain JAX: no array of Tq x Tk elements exists, forward or backward. Portable, slower than a kernel.
cudnn    the fused kernel of cuDNN on NVIDIA GPUs, in float16 or bfloat16.
splash   the Pallas kernel of JAX on TPUs.
auto     cudnn or splash where they apply, else dot for few scores and chunked for many.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

IMPLEMENTATIONS = ("auto", "dot", "chunked", "cudnn", "splash")
MAX_SCORES = 2**26  # scores (H Tq Tk) that `auto` holds in memory: 256 MiB in float32
_BLOCK_Q, _BLOCK_K = 512, 1024  # tile of the chunked form
_LANES = 128  # splash: sequence and head sizes are multiples of it


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    scale: float | None = None,
    causal_block: int | None = None,
    impl: str = "auto",
) -> jax.Array:
    """softmax(scale q k^T) v per head; with `causal_block`, blocks of tokens see themselves and what came before.

    The softmax is taken in float32 (float64 for float64 inputs). Block-causal attention runs one unmasked attention per
    block, over the keys up to its end, so every kernel serves it and masked pairs are not computed.

    Args:
        q: queries (Tq, H, d).
        k: keys (Tk, H, d).
        v: values (Tk, H, d).
        scale: factor on the scores; default 1 / sqrt(d).
        causal_block: tokens per block; Tq = Tk is a multiple of it. None: all keys are seen.
        impl: one of `IMPLEMENTATIONS`.

    Returns:
        (Tq, H, d) in q's dtype.

    Raises:
        ValueError: shapes that do not fit, an unknown `impl`, or one that the inputs do not suit.

    >>> x = jnp.ones((6, 2, 8))
    >>> attention(x, x, x, causal_block=3).shape
    (6, 2, 8)
    """
    if q.ndim != 3 or k.shape != v.shape or q.shape[1:] != k.shape[1:]:
        raise ValueError(f"attention takes q (Tq, H, d), k and v (Tk, H, d), got {q.shape}, {k.shape}, {v.shape}")
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"attention: impl must be one of {IMPLEMENTATIONS}, got {impl!r}")
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    if causal_block is not None:
        if q.shape != k.shape or causal_block < 1 or len(q) % causal_block:
            raise ValueError(
                f"attention: causal_block={causal_block} needs as many queries as keys, a multiple of the block, "
                f"got {len(q)} and {len(k)}"
            )
        if causal_block < len(q):
            ends = range(causal_block, len(q) + 1, causal_block)
            parts = [attention(q[end - causal_block : end], k[:end], v[:end], scale=scale, impl=impl) for end in ends]
            return jnp.concatenate(parts)
    return _KERNELS[_choose(q, k) if impl == "auto" else impl](q, k, v, scale)


def _choose(q, k) -> str:
    """The kernel for the default backend and these static facts."""
    backend, head = jax.default_backend(), q.shape[-1]
    if backend == "gpu" and _suits_cudnn(q):
        return "cudnn"
    if backend == "tpu" and head % _LANES == 0 and len(q) >= _LANES and len(k) >= _LANES:
        return "splash"
    return "dot" if q.shape[1] * len(q) * len(k) <= MAX_SCORES else "chunked"


def _suits_cudnn(q) -> bool:
    return q.dtype in (jnp.float16, jnp.bfloat16) and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0


def _accumulator(x):
    """The dtype of sums and of the softmax."""
    return jnp.promote_types(x.dtype, jnp.float32)


def dot_attention(q, k, v, scale, bias=None):
    """The explicit form; `bias` (H, Tq, Tk) is added to the scores, -inf hides a key."""
    q, k, v = (jnp.swapaxes(x, 0, 1) for x in (q, k, v))  # heads first: a tenth quicker on a CPU
    scores = jnp.einsum("hqd,hkd->hqk", q, k, preferred_element_type=_accumulator(q)) * scale
    weights = jax.nn.softmax(scores if bias is None else scores + bias, -1)
    return jnp.swapaxes(jnp.einsum("hqk,hkd->hqd", weights.astype(v.dtype), v), 0, 1).astype(q.dtype)


def _cudnn(q, k, v, scale):
    if not _suits_cudnn(q):
        raise ValueError(
            f"attention: cudnn takes float16 or bfloat16 and a head size that is a multiple of 8 up to 128, got "
            f"{q.dtype} and {q.shape[-1]}; cast the parameters or use impl='chunked'"
        )
    return jax.nn.dot_product_attention(q[None], k[None], v[None], scale=scale, implementation="cudnn")[0]


def _splash(q, k, v, scale, interpret=False):
    """Pads tokens and head to multiples of 128; padded keys belong to another segment, so no query sees them."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    (n_q, heads, d), n_k = q.shape, len(k)
    pad_q, pad_k, pad_d = (-n % _LANES for n in (n_q, n_k, d))
    padded = [
        jnp.pad(x, ((0, pad), (0, 0), (0, pad_d))).swapaxes(0, 1)
        for x, pad in ((q * scale, pad_q), (k, pad_k), (v, pad_k))
    ]
    segments = kernel.SegmentIds(jnp.zeros(n_q + pad_q, jnp.int32), (jnp.arange(n_k + pad_k) >= n_k).astype(jnp.int32))
    block_q, block_k = (next(b for b in (512, 256, 128) if n % b == 0) for n in (n_q + pad_q, n_k + pad_k))
    sizes = kernel.BlockSizes(
        block_q=block_q,
        block_kv=block_k,
        block_kv_compute=block_k,
        block_q_dkv=block_q,
        block_kv_dkv=block_k,
        block_kv_dkv_compute=block_k,
        block_q_dq=block_q,
        block_kv_dq=block_k,
    )
    mask = masks.MultiHeadMask([masks.FullMask((n_q + pad_q, n_k + pad_k))] * heads)
    with jax.ensure_compile_time_eval():  # the kernel's tables are constants, also while something is traced
        run = kernel.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
    return run(*padded, segment_ids=segments).swapaxes(0, 1)[:n_q, :, :d].astype(q.dtype)


def _tiles(x, block):
    """(T, H, d) -> (T / block, H, block, d), zero-padded."""
    x = jnp.pad(x, ((0, -len(x) % block), (0, 0), (0, 0)))
    return x.reshape(-1, block, *x.shape[1:]).swapaxes(1, 2)


def _untile(x, length):
    return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])[:length]


def _scores(q, k, first, length, scale):
    """Scores of one tile (H, block_q, block_k); keys from `length` on are padding."""
    s = jnp.einsum("hqd,hkd->hqk", q, k, preferred_element_type=_accumulator(q)) * scale
    return jnp.where(first + jnp.arange(k.shape[1]) < length, s, -jnp.inf)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _chunked_attention(q, k, v, scale, block_q, block_k):
    return _chunked_forward(q, k, v, scale, block_q, block_k)[0]


def _chunked_forward(q, k, v, scale, block_q, block_k):
    accumulator, length = _accumulator(q), len(k)
    keys, values = _tiles(k, block_k), _tiles(v, block_k)
    starts = block_k * jnp.arange(len(keys))

    def over_keys(tile):
        def step(carry, xs):
            top, total, out = carry
            key, value, first = xs
            s = _scores(tile, key, first, length, scale)
            new = jnp.maximum(top, s.max(-1))
            p = jnp.exp(s - new[..., None])
            shrink = jnp.exp(top - new)
            out = out * shrink[..., None] + jnp.einsum(
                "hqk,hkd->hqd", p.astype(value.dtype), value, preferred_element_type=accumulator
            )
            return (new, total * shrink + p.sum(-1), out), None

        # The first tile holds at least one key, so the running maximum is finite after it.
        rows = tile.shape[:2]
        start = (
            jnp.full(rows, -jnp.inf, accumulator),
            jnp.zeros(rows, accumulator),
            jnp.zeros(tile.shape, accumulator),
        )
        (top, total, out), _ = jax.lax.scan(step, start, (keys, values, starts))
        return (out / total[..., None]).astype(q.dtype), top + jnp.log(total)

    out, log_total = jax.lax.map(over_keys, _tiles(q, block_q))
    out = _untile(out, len(q))
    return out, (q, k, v, out, log_total)


def _chunked_backward(scale, block_q, block_k, saved, g):
    """dv = P^T g, dS = P o (g v^T - rowsum(g o out)), dq = scale dS k, dk = scale dS^T q, P made again tile by tile."""
    q, k, v, out, log_total = saved
    accumulator, length = _accumulator(q), len(k)
    queries, grads, outs = (_tiles(x, block_q) for x in (q, g, out))
    offset = jnp.sum(grads.astype(accumulator) * outs.astype(accumulator), -1)

    def over_keys(dq, xs):
        key, value, first = xs

        def over_queries(carry, ys):
            dk, dv = carry
            query, grad, log_sum, row = ys
            p = jnp.exp(_scores(query, key, first, length, scale) - log_sum[..., None])
            dv = dv + jnp.einsum("hqk,hqd->hkd", p, grad.astype(accumulator))
            dp = jnp.einsum("hqd,hkd->hqk", grad, value, preferred_element_type=accumulator)
            ds = scale * p * (dp - row[..., None])
            dk = dk + jnp.einsum("hqk,hqd->hkd", ds, query.astype(accumulator))
            return (dk, dv), jnp.einsum("hqk,hkd->hqd", ds, key.astype(accumulator))

        zero = jnp.zeros(key.shape, accumulator)
        (dk, dv), part = jax.lax.scan(over_queries, (zero, zero), (queries, grads, log_total, offset))
        return dq + part, (dk, dv)

    keys, values = _tiles(k, block_k), _tiles(v, block_k)
    starts = block_k * jnp.arange(len(keys))
    dq, (dk, dv) = jax.lax.scan(over_keys, jnp.zeros(queries.shape, accumulator), (keys, values, starts))
    return tuple(_untile(d, len(x)).astype(x.dtype) for d, x in ((dq, q), (dk, k), (dv, v)))


_chunked_attention.defvjp(_chunked_forward, _chunked_backward)


def _chunked(q, k, v, scale, block_q=_BLOCK_Q, block_k=_BLOCK_K):
    fit = lambda block, length: min(block, 8 * math.ceil(length / 8))
    return _chunked_attention(q, k, v, scale, fit(block_q, len(q)), fit(block_k, len(k)))


_KERNELS = {"dot": dot_attention, "chunked": _chunked, "cudnn": _cudnn, "splash": _splash}
