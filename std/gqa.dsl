# Shared keys and values, causal. `gqa` (Ainslie et al. 2023): each of G key heads serves H / G query heads. `mqa`
# (Shazeer 2019): one key head serves all. M queries are the last M of N keys.
dtype T in bf16, f32

op gqa(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E]) -> O: T[B, H, M, E]
    where M <= N, G >= 1, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

op mqa(Q: T[B, H, M, D], K: T[B, N, D], V: T[B, N, E]) -> O: T[B, H, M, E]
    where M <= N
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,k,e])
}

check odd { B = 1, H = 6, G = 2, M = 33, N = 65, D = 40, E = 24 }
