# Top-k attention (Gupta et al. 2021, "Memory-efficient transformers via top-k attention"): each query sees the `kept`
# keys up to its own with the greatest scores; of equal scores the earlier key counts as greater. Ranks are counted,
# every score against every other of its row, so that a row takes N^2 comparisons: for short rows.
dtype T in bf16, f32

op topk(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], kept: int = 8) -> O: T[B, H, M, E]
{
    S[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d]) * rsqrt(D) where k <= q + N - M
    R[b,h,q,k] = rank[k](S[b,h,q,k])
    A[b,h,q,k] = softmax[k where R[b,h,q,k] < kept](S[b,h,q,k])
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24, kept = 5 }
