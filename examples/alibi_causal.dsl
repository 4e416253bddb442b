# Causal attention with ALiBi: a bias linear in the distance between query and key, one slope per head.
dtype T in bf16, f32

op alibi_causal(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], slope: f32[H]) -> O: T[B, H, M, E]
    where M <= N
{
    # M queries are the last M of N keys: query q stands at key q + N - M.
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]) + slope[h] * (k - (q + N - M))
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check small { B = 2, H = 4, M = 80, N = 96, D = 64, E = 64 }
check odd { B = 1, H = 3, M = 63, N = 129, D = 80, E = 64 }
