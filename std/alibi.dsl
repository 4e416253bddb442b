# ALiBi (Press et al. 2022): causal attention with a bias that is linear in the distance between query and key, one slope
# per head. M queries are the last M of N keys.
dtype T in bf16, f32

op alibi(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], slope: f32[H]) -> O: T[B, H, M, E]
    where M <= N
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]) + slope[h] * (k - (q + N - M))
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
