# Attention over a band as one kernel.
dtype T in bf16, f32

op windowed(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], W: int = 256) -> O: T[B, H, N, E]
    where W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
    schedule { fuse k 72; }
}

check odd { B = 1, H = 2, N = 129, D = 9, E = 65, W = 50 }
check one { B = 1, H = 1, N = 1, D = 1, E = 1 }
