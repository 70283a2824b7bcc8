"""Keys and values into their slots in one launch of a Triton kernel."""

import jax
from jax import Array
from jaxtyping import Float, Int, Num

from pallas_kernels import gpu, triton_call
from pallas_kernels.kv_write.reference import largest_of

ELEMENTS = 2048  # a program's, of k and of v: two 16-byte loads of bfloat16 for each of 128 threads
NEW = ("bfloat16", "float16", "float32")
PAGES = (*NEW, "float8_e4m3fn", "float8_e5m2", "int8")


def why_not(k: Array, k_pages: Array, compute_capability: tuple[int, int]) -> str | None:
    """Why this kernel cannot write into such pages on such a GPU, or None if it can."""
    if reason := triton_call.why_not():
        return reason
    major, minor = compute_capability
    if compute_capability < (8, 0):
        return f"the triton kernel needs sm_80 or newer, not sm_{major}{minor}"
    if k.dtype.name not in NEW or k_pages.dtype.name not in PAGES:
        return f"the triton kernel does not write {k.dtype.name} into pages of {k_pages.dtype.name}"
    if k_pages.dtype.name.startswith("float8") and compute_capability < (8, 9):
        return f"sm_{major}{minor} cannot round to {k_pages.dtype.name}, sm_89 and newer can"
    if k.shape[2] > ELEMENTS:
        return f"the triton kernel takes head dims up to {ELEMENTS}, not {k.shape[2]}"
    return None


def write(
    k: Float[Array, "T K D"],
    v: Float[Array, "T K D"],
    k_pages: Num[Array, "P K S D"],
    v_pages: Num[Array, "P K S D"],
    slots: Int[Array, " T"],
    k_scale: Float[Array, " K"] | None = None,
    v_scale: Float[Array, " K"] | None = None,
) -> tuple[Num[Array, "P K S D"], Num[Array, "P K S D"]]:
    """See `kv_write.write`; scales are there for pages of 8 bits, and only for them."""
    from pallas_kernels.kv_write.triton_write_kernel import write_both

    T, K, D = k.shape
    P, _, S, _ = k_pages.shape
    has_scales = k_scale is not None
    if k_scale is None or v_scale is None:
        k_scale = v_scale = slots  # some pointers, never read
    dims = 1 << (D - 1).bit_length()
    rows = ELEMENTS // dims
    k_pages, v_pages = triton_call.launch(
        write_both,
        k,
        v,
        slots,
        k_scale,
        v_scale,
        T * K,
        P * S,
        in_place=(k_pages, v_pages),
        grid=(-(-T * K // rows),),
        compute_capability=gpu.compute_capability(),
        K=K,
        D=D,
        S=S,
        ROWS=rows,
        DIMS=dims,
        LARGEST=largest_of(k_pages.dtype) if has_scales else 0.0,
        IS_INTEGER=k_pages.dtype == jax.numpy.int8,
    )
    return k_pages, v_pages
