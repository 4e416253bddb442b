# Sliding window with an attention sink: each query sees itself, the W - 1 keys before it and one learned logit per head.
dtype T in bf16, f32

op window(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], snk: f32[H], W: int = 256) -> O: T[B, H, N, E]
    where W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q sink snk[h]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check small { B = 2, H = 4, N = 96, D = 64, E = 64, W = 32 }
check odd { B = 1, H = 3, N = 129, D = 80, E = 64, W = 50 }
check wide { B = 1, H = 2, N = 65, D = 64, E = 64 } # W = 256: the window is wider than the sequence
