# Attention in a window: `window_causal` sees itself and the W - 1 tokens before it, `window_both` as many after it too.
dtype T in bf16, f32

op window_causal(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], W: int) -> O: T[B, H, N, E]
    where W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op window_both(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], W: int) -> O: T[B, H, N, E]
    where W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k < q + W](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

vjp window_causal wrt Q, K, V

vjp window_both wrt Q, K, V
