# Soft cap (Gemma 2): causal attention whose scores are bent into -cap .. cap by a tanh. M queries are the last M of N
# keys.
dtype T in bf16, f32

op softcap(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], cap: f32 = 50) -> O: T[B, H, M, E]
    where M <= N, cap > 0
{
    S[b,h,q,k] = cap * tanh(rsqrt(D) / cap * sum[d](Q[b,h,q,d] * K[b,h,k,d]))
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
check tight { B = 1, H = 1, M = 7, N = 7, D = 8, E = 8, cap = 2.5 }
