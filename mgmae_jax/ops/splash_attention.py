"""JAX's splash attention, a TPU kernel that never writes the N x M matrix, for any number of tokens."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
from jaxtyping import Array, Float

_LANES = 128  # the kernel takes blocks that are a multiple of this
_LARGEST = 1024
_OVERHEAD = 64  # what a block costs beyond its tokens, as a number of tokens


def splash_attention(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
    *,
    interpret: bool = False,
) -> Float[Array, "B N heads d"]:
    """Scaled dot-product attention without a mask.

    Tokens are padded to whole blocks; the padding is a segment of its own, which no true token attends to.

    Args:
      query: the queries.
      key: the keys.
      value: the values.
      interpret: run the kernel on any backend, slowly.
    """
    tokens, others, heads = query.shape[1], key.shape[1], query.shape[2]
    block_q, block_kv = block_size(tokens), block_size(others)
    padded_q, padded_kv = _padded(tokens, block_q), _padded(others, block_kv)
    kernel = splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([splash_attention_mask.FullMask((padded_q, padded_kv))] * heads),
        block_sizes=splash_attention_kernel.BlockSizes(
            block_q=block_q,
            block_kv=block_kv,
            block_kv_compute=block_kv,
            block_q_dkv=block_q,
            block_kv_dkv=block_kv,
            block_kv_dkv_compute=block_kv,
            block_q_dq=block_q,
            block_kv_dq=block_kv,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    segments = splash_attention_kernel.SegmentIds(_segments(tokens, padded_q), _segments(others, padded_kv))

    def one(query: Array, key: Array, value: Array) -> Array:
        attended: Array = kernel(query, key, value, segments)
        return attended

    query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        out: Array = jax.vmap(one)(
            _heads_first(query, padded_q), _heads_first(key, padded_kv), _heads_first(value, padded_kv)
        )
    return out.transpose(0, 2, 1, 3)[:, :tokens]


def block_size(tokens: int) -> int:
    """The size of blocks that wastes least on padding and on the blocks' own cost: 896 for 1568 tokens, 256 for 152."""
    sizes = range(_LANES, _LARGEST + 1, _LANES)
    return min(sizes, key=lambda size: (_padded(tokens, size) * (1 + _OVERHEAD / size), -size))


def padded_tokens(tokens: int) -> int:
    """How many tokens the kernel makes of that many: 1792 of 1568, 256 of 152."""
    return _padded(tokens, block_size(tokens))


def _padded(tokens: int, block: int) -> int:
    return -(-tokens // block) * block


def _segments(tokens: int, padded: int) -> Array:
    return (jnp.arange(padded, dtype=jnp.int32) >= tokens).astype(jnp.int32)


def _heads_first(x: Float[Array, "B N heads d"], padded: int) -> Float[Array, "B heads {padded} d"]:
    return jnp.pad(x, ((0, 0), (0, padded - x.shape[1]), (0, 0), (0, 0))).transpose(0, 2, 1, 3)
