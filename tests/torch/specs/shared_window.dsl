# A window with a sink and grouped heads, with gradients, for test_distributed.py.
dtype T in bf16, f32

op window(Q: T[B, H, N, D], K: T[B, G, N, D], V: T[B, G, N, E], snk: f32[H], W: int = 5) -> O: T[B, H, N, E]
    where W >= 1, H % G == 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // (H // G), k, d])
    P[b,h,q,k] = softmax[k where q - W < k <= q sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // (H // G), k, e])
}

vjp window wrt Q, K, V, snk
