# Block-sparse attention (Child et al. 2019): per head, a layout says which blocks of BS by BS scores exist; within them
# attention is causal. A query whose blocks are all off gives 0.
dtype T in bf16, f32

op block_sparse(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    layout: i32[H, (N + BS - 1) // BS, (N + BS - 1) // BS],
    BS: int = 64,
) -> O: T[B, H, N, E]
    where BS >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q and layout[h, q // BS, k // BS] != 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, N = 65, D = 40, E = 24, BS = 16 }
