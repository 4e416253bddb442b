# Attention sinks, with a window. `window_sink` (gpt-oss): one learned logit per head takes part in the softmax and in
# nothing else, so that a query may look at no key. `streaming` (StreamingLLM, Xiao et al. 2023): the first C keys stay
# visible to everyone, the others leave the window as usual.
dtype T in bf16, f32

op window_sink(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], snk: f32[H], W: int = 256) -> O: T[B, H, N, E]
    where W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op streaming(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], C: int = 4, W: int = 256) -> O: T[B, H, N, E]
    where C >= 0, W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q and (k < C or q - W < k)](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, N = 97, D = 40, E = 24, C = 3, W = 30 }
