# Sliding windows. `window` (Beltagy et al. 2020; Mistral): each query sees itself and the W - 1 keys before it.
# `window_around`: it sees `left` keys before it and `right` keys after it, as encoders do.
dtype T in bf16, f32

op window(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], W: int = 256) -> O: T[B, H, N, E]
    where W >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op window_around(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], left: int = 128, right: int = 128)
    -> O: T[B, H, N, E]
    where left >= 0, right >= 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - left <= k <= q + right](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, N = 97, D = 40, E = 24, W = 30, left = 17, right = 5 }
check alone { B = 1, H = 1, N = 7, D = 8, E = 8, W = 1, left = 0, right = 0 }
