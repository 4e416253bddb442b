# Dilated window (Beltagy et al. 2020): W keys, `step` apart, that end at the query itself; it reaches W * step
# tokens back for the price of W.
dtype T in bf16, f32

op dilated(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], W: int = 128, step: int = 2) -> O: T[B, H, N, E]
    where W >= 1, step >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W * step < k <= q and (q - k) % step == 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, N = 97, D = 40, E = 24, W = 9, step = 3 }
