# Softmax attention: `softmax_causal` sees itself and what came before, `softmax_both` sees everything.
dtype T in bf16, f32

op softmax_causal(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op softmax_both(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

vjp softmax_causal wrt Q, K, V

vjp softmax_both wrt Q, K, V
